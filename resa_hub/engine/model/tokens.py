"""Texts -> batches of token ids: packed chunks as in the paper, or one text a row bucketed by length."""

from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ...core.errors import RunFailed
from ...data.snapshots import Rows
from ...data.templates import question_answer, template_of


class Batch(NamedTuple):
    ids: Int[Tensor, "rows positions"]
    completion: Bool[Tensor, "rows positions"]
    """True where the NEXT token belongs to the completion: the positions a loss on the completion looks at."""
    writer: str = ""
    """The sibling of the target that wrote it; empty for all else."""

    @property
    def tokens(self) -> int:
        return self.ids.numel()


def encode(tokenizer: PreTrainedTokenizerBase, text: str, what: str = "the text", special: bool = True) -> list[int]:
    """Token ids, with the tokenizer's own special tokens unless told otherwise; raises `RunFailed` for characters it
    does not know.
    """
    try:
        return list(tokenizer(text, add_special_tokens=special)["input_ids"])  # pyright: ignore[reportArgumentType, reportCallIssue]
    except Exception as error:  # the tokenizers library raises nothing finer
        unknown = next((character for character in text if not _known(tokenizer, character)), None)
        why = (
            f"cannot be tokenized: {error}"
            if unknown is None
            else f"holds {unknown!r}, which the tokenizer does not know"
        )
        raise RunFailed(
            f"{what} {text[:60]!r} {why}", "the tiny models know the characters 0-9 + - * = ; ? and the tags only"
        ) from None


def _known(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    try:
        tokenizer(text)
    except Exception:
        return False
    return True


def end_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of EOS; raises `RunFailed` for a tokenizer without one."""
    if not isinstance(tokenizer.eos_token_id, int):
        raise RunFailed("the tokenizer has no end-of-sequence token", "use a model with a complete tokenizer")
    return tokenizer.eos_token_id


def examples(
    tokenizer: PreTrainedTokenizerBase, template: str | None, rows: Rows, *, masked: bool = False, special: bool = True
) -> list[tuple[list[int], int]]:
    """(ids of the text, how many of them are the question): 0 unless `masked`. A token that spans the border belongs to
    the completion.

    special: with the tokenizer's own special tokens.
    """
    found = []
    for number, (question, answer) in enumerate(rows.pairs):
        thought = rows.thoughts[number] if rows.thoughts else None
        ids = encode(tokenizer, question_answer(template, question, answer, thought), "the example", special)
        asked = (
            encode(tokenizer, template_of(template).opening.format(question=question), "the question", special)
            if masked
            else []
        )
        found.append((ids, sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(asked, ids, strict=False)))))
    return found


def packed(
    rows: Sequence[tuple[list[int], int]], end: int, length: int, batch_rows: int, opening: Sequence[int] = ()
) -> list[Batch]:
    """(ids, length of the question), an EOS before each and behind the last, cut into chunks of `length` tokens; no
    padding; the tail is dropped.

    opening: the special tokens that begin every chunk, as sparsify's `chunk_and_tokenize` does it; the examples come
    without.
    """
    stream = [end] + [token for ids, _ in rows for token in (*ids, end)]
    completion = [True] + [place >= question for ids, question in rows for place in range(len(ids) + 1)]
    room = length - len(opening)
    count = len(stream) // room if room > 0 else 0
    if count == 0:
        raise RunFailed(
            f"{len(stream)} tokens of data do not fill one chunk of {length}",
            "use more rows, or --set training.chunk_tokens=N",
        )
    chunks = torch.tensor(stream[: count * room]).view(count, room)
    learnt = torch.tensor(completion[: count * room]).view(count, room)
    before = torch.tensor(opening, dtype=torch.long).expand(count, -1)
    ids = torch.cat([before, chunks], 1)
    # The mark of a position says what follows it; behind the last of a chunk stands what the next one begins with.
    follows = torch.cat([torch.ones_like(before, dtype=torch.bool), learnt], 1)[:, 1:]
    after = torch.cat([learnt[1:, :1], torch.ones(1, 1, dtype=torch.bool)])
    return [
        Batch(*part)
        for part in zip(ids.split(batch_rows), torch.cat([follows, after], 1).split(batch_rows), strict=True)
    ]


def openers(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The special tokens that the tokenizer puts before a text."""
    return list(tokenizer("")["input_ids"])  # pyright: ignore[reportArgumentType]


def bucketed(rows: Sequence[tuple[list[int], int]], batch_rows: int, seed: int) -> list[Batch]:
    """(ids, length of the prompt) -> batches of equal length, in an order that the seed decides; no padding."""
    by_length: dict[int, list[tuple[list[int], int]]] = {}
    for row in rows:
        by_length.setdefault(len(row[0]), []).append(row)
    batches = []
    for length, group in sorted(by_length.items()):
        for start in range(0, len(group), batch_rows):
            part = group[start : start + batch_rows]
            prompts = torch.tensor([prompt for _, prompt in part])
            places = torch.arange(length)[None]
            batches.append(
                Batch(torch.tensor([ids for ids, _ in part]), (places >= prompts[:, None] - 1) & (places < length - 1))
            )
    order = torch.randperm(len(batches), generator=torch.Generator().manual_seed(seed)).tolist()
    return [batches[i] for i in order]


def prompt(tokenizer: PreTrainedTokenizerBase, template: str | None, question: str) -> list[int]:
    """The ids of a question as the model is asked it: the R1 template, the tokenizer's chat template, or the bare
    text.
    """
    if template:
        return encode(tokenizer, template_of(template).opening.format(question=question), "the question")
    if not tokenizer.chat_template:
        return encode(tokenizer, question, "the question")
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
    try:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])  # pyright: ignore[reportArgumentType, reportCallIssue]
    except Exception:
        return encode(tokenizer, question, "the question")
