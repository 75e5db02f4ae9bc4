"""How many tokens texts have, told by the files of a model alone: no model library is loaded."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import HubError, RunFailed
from .snapshots import Files

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TINY_CHARACTERS = "the tiny models know the characters 0-9 + - * = ; ? and the tags only"


def counts(
    folder: Path,
    texts: Sequence[str],
    what: str = "the text",
    hint: str = TINY_CHARACTERS,
    error: type[HubError] = RunFailed,
    special: bool = True,
) -> list[int] | None:
    """Tokens of every text, with the special ones that the tokenizer adds; None where the folder has no tokenizer.json.

    what: a text's name in the error. special: False for a text that holds them itself. Raises `error`, with the hint,
    for characters that the tokenizer does not know.
    """
    file = folder / "tokenizer.json"
    if not file.is_file():
        return None
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file.resolve()))
    try:
        return [len(encoded.ids) for encoded in tokenizer.encode_batch(list(texts), add_special_tokens=special)]
    except Exception:  # the tokenizers library raises nothing finer
        text, unknown = next(((text, one) for text in texts for one in text if not _is_known(tokenizer, one)), ("", ""))
        raise error(f"{what} {text[:60]!r} holds {unknown!r}, which the tokenizer does not know", hint) from None


def _is_known(tokenizer: "Tokenizer", text: str) -> bool:
    try:
        tokenizer.encode(text)
    except Exception:
        return False
    return True


def chat_openings(files: Files, questions: Sequence[str]) -> list[str]:
    """Every question in the model's own chat template; bare where it has none that can be read here."""
    file = files.folder / "chat_template.jinja"
    if not file.is_file():
        return list(questions)
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    try:
        template = environment.from_string(file.read_text(encoding="utf-8"))
        chats = ([{"role": "user", "content": question}] for question in questions)
        return [template.render(messages=chat, add_generation_prompt=True) for chat in chats]
    except (TemplateError, OSError, TypeError):
        return list(questions)
