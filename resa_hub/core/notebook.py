"""Values as Python shows them: one short line, small HTML in a notebook, and lists that show themselves as a table.

The HTML has inline styles alone, which hold in light and dark notebooks. Every text in it is escaped: names, verdicts
and paths may be a stranger's.
"""

from collections.abc import Sequence
from html import escape
from typing import Protocol, TypeVar, runtime_checkable

from .safe_text import plain
from .tones import tone

LONGEST = 300
"""Characters of one cell; the whole text stands in its title."""
COLOURS = {"good": "#1a7f37", "bad": "#b42318", "open": "#8a5a00"}
OTHER = "#57606a"
"""Of other tones than these, and of words that are no verdict."""
TABLE = "border-collapse:collapse;margin:.3em 0;font-size:.93em"
CELL = "text-align:left;vertical-align:top;padding:.2em .9em .2em 0;border-bottom:1px solid rgba(128,128,128,.35)"
HEAD = f"{CELL};white-space:nowrap"
CHIP = "color:#fff;padding:.1em .5em;border-radius:.6em;white-space:nowrap"
Cells = dict[str, str]
"""Heading -> text."""


class Verdict(str):
    """A cell that is coloured by the verdict that it begins with."""


@runtime_checkable
class Tabular(Protocol):
    """What can be a row of a table."""

    def _cells(self) -> Cells: ...


T = TypeVar("T")


class Listing(list[T]):
    """A list whose items stand on a line each, and in a notebook as the rows of a table."""

    def __repr__(self) -> str:
        return "[" + ",\n ".join(map(repr, self)) + "]"

    def _repr_html_(self) -> str:
        rows = [item._cells() if isinstance(item, Tabular) else {"": repr(item)} for item in self]
        return table(rows) if rows else "<em>nothing</em>"


def line(kind: str, text: str) -> str:
    """`<Adapter demo-1@0.1.0 ...>`, on one line whatever the text holds."""
    return f"<{kind} {plain(text).replace(chr(10), ' ')}>"


def table(rows: Sequence[Cells]) -> str:
    """The columns are those of the first row."""
    columns = list(rows[0])
    head = "".join(f'<th style="{HEAD}">{_text(column)}</th>' for column in columns)
    body = "".join(f"<tr>{''.join(_cell(row.get(column, '')) for column in columns)}</tr>" for row in rows)
    return f'<table style="{TABLE}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def card(title: str, pairs: Cells, more: str = "") -> str:
    """A heading, a line for each value that is there, and HTML from `table`."""
    rows = "".join(
        f'<tr><th style="{HEAD}">{_text(label)}</th>{_cell(value)}</tr>' for label, value in pairs.items() if value
    )
    return f'<div><strong>{_text(title)}</strong><table style="{TABLE}"><tbody>{rows}</tbody></table>{more}</div>'


def _cell(value: str) -> str:
    text = str(value)
    shown = _verdict(text) if isinstance(value, Verdict) and text else _text(text)
    title = f' title="{escape(plain(text))}"' if len(text) > LONGEST else ""
    return f'<td style="{CELL}"{title}>{shown}</td>'


def _verdict(text: str) -> str:
    return f'<span style="{CHIP};background:{COLOURS.get(tone(text), OTHER)}">{_text(text)}</span>'


def _text(text: str) -> str:
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return escape(plain(shown)).replace("\n", "<br>")
