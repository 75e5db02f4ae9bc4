"""The terminal behind a stream: whether there is one, how wide it is, whether it shows colours; and text that fits."""

import os
import re
import textwrap
from typing import TextIO

WIDTH = 80
"""Characters of a line where nobody says."""
NARROWEST = 20
CODES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33}
"""Styles, by the names that rich gives them too."""
WHOLE = re.compile(r"`[^`]+`|\d (?:[kMGTPE]?B|s|min|h|points)\b")
"""What is not broken at its spaces."""


def is_terminal(stream: TextIO) -> bool:
    return stream.isatty()


def has_colors(stream: TextIO) -> bool:
    """As no-color.org and force-color.org ask for it."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return is_terminal(stream) and os.environ.get("TERM") not in ("dumb", "unknown")


def width(stream: TextIO) -> int:
    """Characters of a line: what COLUMNS says, else the window."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal():
        return max(NARROWEST, int(told))
    try:
        return max(NARROWEST, os.get_terminal_size(stream.fileno()).columns or WIDTH)
    except (OSError, ValueError):
        return WIDTH


def painted(text: str, style: str) -> str:
    """style: of CODES."""
    return f"\033[{CODES[style]}m{text}\033[0m"


def fill(text: str, width: int, indent: str = "  ") -> str:
    """Each line broken at spaces and continued `indent` deeper than it begins. Words, and commands in backticks, stay
    whole, so that they can be copied, and numbers beside their units.
    """
    return "\n".join(_broken(line, width, indent) for line in text.split("\n"))


def _broken(line: str, width: int, indent: str) -> str:
    if len(line) <= width:
        return line
    begins = line[: len(line) - len(line.lstrip())]
    whole = WHOLE.sub(lambda part: part[0].replace(" ", "\0"), line)
    lines = textwrap.wrap(
        whole, width, subsequent_indent=begins + indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines).replace("\0", " ")
