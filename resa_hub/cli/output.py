"""The single sink: data on stdout, all else on stderr; for people, as JSON, or quiet."""

import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any


class Output:
    """`json`: one document on stdout. `quiet`: only the essential line, for scripts."""

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

    def text(self, text: str) -> None:
        print(safe(text), flush=True)  # in order with what goes to stderr

    def hint(self, text: str) -> None:
        if not self.silent:
            sys.stderr.write(safe(text) + "\n")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Aligned columns; rich's tables would double the CPU time of the light commands."""
        cells = [[line(str(cell)) for cell in row] for row in rows]
        widths = [
            max(len(column), *(len(row[i]) for row in cells)) if cells else len(column)
            for i, column in enumerate(columns)
        ]
        heading = "  ".join(column.ljust(width) for column, width in zip(columns, widths, strict=True)).rstrip()
        sys.stdout.write((f"\033[1m{heading}\033[0m" if sys.stdout.isatty() else heading) + "\n")
        for row in cells:
            sys.stdout.write(
                "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n"
            )

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Labels and values, long values wrapped."""
        width = max(len(label) for label, _ in pairs)
        room = max(40, shutil.get_terminal_size((120, 24)).columns - width - 2)
        for label, value in pairs:
            lines = textwrap.wrap(safe(value), room, break_on_hyphens=False) or [""]
            sys.stdout.write(
                f"{label.ljust(width)}  {lines[0]}\n" + "".join(f"{' ' * width}  {line}\n" for line in lines[1:])
            )


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
    else:
        sys.stderr.write(f"error: {line(message)}\n" + (f"  {line(hint)}\n" if hint else ""))
