"""Pieces of Markdown."""

import re
from collections.abc import Sequence

NOTE = "<!-- Written by `python scripts/reference.py`: change the program, not this file. -->"


def page(title: str, about: str, *parts: str) -> str:
    return "\n\n".join([f"# {title}", NOTE, about, *filter(None, parts)]) + "\n"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    """On one line, its bars kept from the table."""
    return " ".join(text.split()).replace("|", "\\|")


def code(text: str) -> str:
    """Text between backticks."""
    return f"`{text}`"


def block(text: str, language: str = "") -> str:
    return f"```{language}\n{text}\n```"


def prose(text: str) -> str:
    """What a help text says, with names of files and keys that HTML would swallow kept as they are."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else part.replace("<", "&lt;").replace("*", "\\*") for part in parts)
