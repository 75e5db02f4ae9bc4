"""Texts of strangers made safe to show."""

from typing import Any


def plain(text: str) -> str:
    """The text with every unprintable character (control, direction, lone surrogate) written as `⟨U+202E⟩`.

    So a reader sees what is there, and UTF-8 can hold it. Line breaks and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else f"\u27e8U+{ord(c):04X}\u27e9" for c in text)


def plain_json(value: Any) -> Any:
    """The same JSON value with `plain` applied to every text in it, keys included."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, dict):
        return {plain(str(key)): plain_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(inner) for inner in value]
    return value
