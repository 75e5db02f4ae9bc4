"""Whether a model can be asked at all: it knows the characters, and prompt and answer fit into its context."""

from collections.abc import Sequence

from ...core.errors import DoesNotFit, Usage
from ...data import tiny
from ...data.snapshots import Files
from ...data.token_counts import TINY_CHARACTERS, chat_openings, counts


def check_prompts(files: Files, questions: Sequence[str], new_tokens: int, benchmark: str) -> None:
    """Raise `Usage` for a question with characters that the model does not know, `DoesNotFit` as `check_context`.

    benchmark: as it is named on the command line, for the hint.
    """
    hint = TINY_CHARACTERS
    if files.id.startswith(tiny.PREFIX) and benchmark.endswith(".jsonl") and "=" not in benchmark:
        hint = f"--benchmark answer-tag={benchmark} asks the bare question; {TINY_CHARACTERS}"
    # The bare questions first: the error names what the user wrote.
    lengths = counts(files.folder, questions, "the question", hint, Usage)
    openings = chat_openings(files, questions)
    if openings != list(questions):
        lengths = counts(files.folder, openings, "the question", hint, Usage, special=False)
    if lengths:
        check_context(files, new_tokens, max(lengths))


def check_context(base: Files, new_tokens: int, longest: int) -> None:
    """Raise `DoesNotFit` where the longest prompt and its answer are longer than the model's context."""
    context = base.config.get("max_position_embeddings")
    if not isinstance(context, int) or longest + new_tokens <= context:
        return
    room = context - longest
    another = "no answer fits: take another target or benchmark"
    raise DoesNotFit(
        f"{base.id} has a context of {context:,} tokens; the longest prompt has {longest:,}, which "
        f"leaves {max(0, room):,} of the {new_tokens:,} asked for an answer",
        f"--new-tokens {room}, or another target" if room > 0 else another,
    )
