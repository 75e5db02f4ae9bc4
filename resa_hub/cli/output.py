"""The single sink: data on stdout, all else on stderr; for people, as JSON, or quiet."""

import json
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from ..core import terminal
from .tables import NO_WORDS, Column, Table, Words, colored, wrapped


class Output:
    """`json`: one document on stdout. `quiet`: only the essential line, for scripts.

    On a terminal everything fits the window and has colours. In a pipe nothing is wrapped, hidden or shortened.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json, self.quiet = as_json, quiet

    @property
    def silent(self) -> bool:
        """Nothing but the result is asked for."""
        return self.as_json or self.quiet

    def data(self, value: Any, essential: str = "") -> bool:
        """Print `value` in JSON mode or `essential` in quiet mode; True when nothing is left to say."""
        if self.as_json:
            sys.stdout.write(to_json(value, indent=2) + "\n")
        elif self.quiet and essential:
            sys.stdout.write(safe(essential) + "\n")
        return self.silent

    def text(self, text: str, words: Words = NO_WORDS) -> None:
        """Sentences, wrapped on a terminal. words: those that are coloured."""
        self._print(_colored(_fill(safe(text), sys.stdout), words))

    def verbatim(self, text: str) -> None:
        """What a model wrote, or what is to be copied: never wrapped."""
        self._print(safe(text))

    def _print(self, text: str) -> None:
        print(text, flush=True)  # in order with what goes to stderr

    def hint(self, text: str) -> None:
        if not self.silent:
            sys.stderr.write(_dim(_fill(safe(text), sys.stderr)) + "\n")

    def table(self, columns: Sequence[str | Column], rows: Sequence[Sequence[str]]) -> None:
        """columns: headings, or how each is shown."""
        table = Table(columns, [[line(str(cell)) for cell in row] for row in rows])
        if terminal.is_terminal(sys.stdout):
            table.draw(terminal.width(sys.stdout))
        else:
            sys.stdout.write(table.plain(terminal.has_colors(sys.stdout)))

    def pairs(self, pairs: Sequence[tuple[str, str]], words: Words = NO_WORDS) -> None:
        """Labels and values; on a terminal long values are wrapped beside their label."""
        width = max(len(label) for label, _ in pairs) + 2
        for label, value in pairs:
            told = f"{label.ljust(width)}{line(value)}"
            if terminal.is_terminal(sys.stdout):
                told = _beside(label, line(value), width, terminal.width(sys.stdout))
            sys.stdout.write(_colored(told, words).rstrip() + "\n")


def _beside(label: str, value: str, width: int, room: int) -> str:
    """A value that would lose its shape beside its label stands below it; a word longer than the window is broken."""
    longest = max(map(len, value.split()), default=0)
    if longest + 2 > room:
        return f"{label.ljust(width)}{wrapped(value, room - width)}".replace("\n", "\n" + " " * width)
    if width + longest > room >= longest + 2:
        return terminal.fill(f"{label}\n  {value}", room, indent="")
    told = f"{label.ljust(width)}{value}"
    begins = len(told) - len(told.lstrip())
    return terminal.fill(told, room, indent=" " * max(0, width - begins))


def _fill(text: str, stream: TextIO) -> str:
    return terminal.fill(text, terminal.width(stream)) if terminal.is_terminal(stream) else text


def _colored(text: str, words: Words) -> str:
    return colored(text, words) if words and terminal.has_colors(sys.stdout) else text


def _dim(text: str) -> str:
    return terminal.painted(text, "dim") if text.strip() and terminal.has_colors(sys.stderr) else text


def safe(text: str) -> str:
    """Without control and direction characters that a stranger's text could play with; new lines and tabs stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def line(text: str) -> str:
    """The same on one line."""
    return safe(text).replace("\n", " ").replace("\t", " ")


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON in which such characters are escaped: the same document, harmless at a terminal."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def fail(kind: str, message: str, hint: str, *, as_json: bool) -> None:
    """One error, on stderr."""
    if as_json:
        sys.stderr.write(to_json({"error": {"kind": kind, "message": message, "hint": hint}}) + "\n")
        return
    told = _fill(f"error: {line(message)}", sys.stderr)
    if terminal.has_colors(sys.stderr):
        told = terminal.painted("error:", "red") + told.removeprefix("error:")
    sys.stderr.write(told + "\n")
    if hint:
        sys.stderr.write(_dim(_fill(f"  {line(hint)}", sys.stderr)) + "\n")
