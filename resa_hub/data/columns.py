"""Which columns of a table hold question, answer and worked solution: as they are named, else by their usual names."""

from collections.abc import Sequence

from ..config.refs import split_columns
from ..core.errors import HubError, Usage

USUAL = {
    "question": ("problem", "question", "prompt"),
    "answer": ("answer", "final_answer", "expected_answer", "target"),
    "solution": ("solution",),
}
"""The first that is there is taken."""


def column_of(part: str, named: str | None, present: Sequence[str], name: str) -> str:
    """The column of `question`, `answer` or `solution`.

    named: what the registry or the reference says, None where neither does. present: the columns of the table. name: of
    the data set, for the error. Raises `Usage` where none of the usual names is there.
    """
    found = named or next((column for column in USUAL[part] if column in present), None)
    if found is None:
        raise no_column(name, f"of {part}s ({', '.join(USUAL[part])})", present, part)
    return found


def no_column(name: str, wanted: str, present: Sequence[str], part: str = "question") -> HubError:
    has = ", ".join(map(str, present)) or "none"
    return Usage(
        f"data set {name!r} has no column {wanted}; it has {has}",
        f"say which: {split_columns(name)[0]}:{'solution' if part == 'solution' else 'question=COLUMN,answer'}=COLUMN",
    )
