"""Tables: plain aligned lines in a pipe, drawn by rich to fit the window on a terminal."""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ..core import terminal

GAP = 2
Words = Mapping[str, str]
"""Words that are coloured wherever they stand: word -> style of `core.terminal.CODES`."""
NO_WORDS: Words = {}
SIGNS = "-/_,:;+#"
"""Behind these a long word may be broken."""


class Column(NamedTuple):
    """How a column is shown; a bare heading is one whose cells may wrap and that is never hidden."""

    name: str
    """The heading, with the unit of its numbers, as `gain, points`."""
    right: bool = False
    """Numbers: aligned right, in one piece."""
    whole: bool = False
    """Names that people copy: in one piece unless the window is too narrow for them alone."""
    least: int = 16
    """Characters to which text is wrapped at most: other columns are hidden first."""
    hide: int = 0
    """The highest goes first where the window is too narrow; 0 always stays."""
    words: Words = NO_WORDS

    def narrowest(self, cells: Sequence[str]) -> int:
        """Characters below which it is no pleasure to read."""
        widest = max(map(len, [self.name, *cells]))
        if self.right:
            return max(map(len, [*self.name.split(), *cells]), default=0)
        return widest if self.whole else min(widest, self.least)


class Table:
    """Columns, and rows of cells that are one line each."""

    def __init__(self, columns: Sequence["str | Column"], rows: Sequence[Sequence[str]]) -> None:
        self.columns = [Column(c) if isinstance(c, str) else c for c in columns]
        self.rows = rows
        cells = [[row[i] for row in rows] for i in range(len(self.columns))]
        self.widths = [max(map(len, [column.name, *cells[i]])) for i, column in enumerate(self.columns)]
        self.least = [column.narrowest(cells[i]) for i, column in enumerate(self.columns)]

    def plain(self, colors: bool = False) -> str:
        """All columns at full width, a line a row: what a script can read."""
        heading = self._line([column.name for column in self.columns])
        lines = [self._line(row) for row in self.rows]
        if colors:
            heading = terminal.painted(heading, "bold")
            words = {word: style for column in self.columns for word, style in column.words.items()}
            lines = [colored(line, words) for line in lines]
        return "".join(f"{line}\n" for line in [heading, *lines])

    def _line(self, cells: Sequence[str]) -> str:
        aligned = (
            cell.rjust(width) if column.right else cell.ljust(width)
            for column, cell, width in zip(self.columns, cells, self.widths, strict=True)
        )
        return (" " * GAP).join(aligned).rstrip()

    def fit(self, room: int) -> dict[int, int]:
        """Number of each column that is shown -> its width; together they take at most `room` characters."""
        shown = list(range(len(self.columns)))
        while _total(self.least[i] for i in shown) > room:
            weakest = max(reversed(shown), key=lambda i: self.columns[i].hide)
            if not self.columns[weakest].hide:
                break
            shown.remove(weakest)
        widths = {i: self.widths[i] for i in shown}
        while _total(widths.values()) > room and max(widths.values()) > 1:
            wide = [i for i in shown if widths[i] > self.least[i]] or shown
            widths[max(wide, key=lambda i: widths[i])] -= 1
        return widths

    def draw(self, room: int) -> None:
        """On the terminal, no line wider than `room` characters."""
        from rich.console import Console
        from rich.table import Table as Drawn
        from rich.text import Text

        widths = self.fit(room)
        drawn = Drawn(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
        for i, width in widths.items():
            justify = "right" if self.columns[i].right else "left"
            drawn.add_column(Text(wrapped(self.columns[i].name, width)), justify=justify, width=width, overflow="fold")
        for row in self.rows:
            cells = (colored(wrapped(row[i], width), self.columns[i].words) for i, width in widths.items())
            drawn.add_row(*map(Text.from_ansi, cells))
        colors = "auto" if terminal.has_colors(sys.stdout) else None
        console = Console(file=sys.stdout, width=room, color_system=colors, highlight=False)
        console.print(drawn)
        hidden = ", ".join(column.name for i, column in enumerate(self.columns) if i not in widths)
        if hidden:
            console.print(Text(f"hidden: {hidden}; wider window or --json", style="dim"))


def _total(widths: Iterable[int]) -> int:
    """Of columns with gaps between them."""
    widths = list(widths)
    return sum(widths) + GAP * (len(widths) - 1)


def wrapped(cell: str, width: int) -> str:
    """Broken at spaces; a word that is too long for a line at its signs, as `org/name-` and `1.5b`, else anywhere."""
    lines, line = [], ""
    for piece in _pieces(cell, width):
        if line and len(line + piece.rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        line += piece
    return "\n".join([*lines, line.rstrip()])


def _pieces(cell: str, width: int) -> Iterator[str]:
    """What stays together, each with the blanks that follow it."""
    for word in re.findall(r"\s*\S+\s*", cell):
        if len(word.rstrip()) <= width:
            yield word
            continue
        for part in re.findall(rf".+?(?:[{SIGNS}]+|(?=@)|$)", word):
            yield from (part[at : at + width] for at in range(0, len(part), width))


def colored(text: str, words: Words) -> str:
    """`text` with the codes of a terminal around each of `words`, in whatever case, and also where it is wrapped."""
    if not words:
        return text
    longest_first = sorted(words, key=len, reverse=True)
    either = "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in longest_first)
    styles = {word.lower(): style for word, style in words.items()}
    return re.sub(
        rf"(?<!\w)({either})(?!\w)",
        lambda match: terminal.painted(match[0], styles[" ".join(match[0].lower().split())]),
        text,
        flags=re.IGNORECASE,
    )
