"""Checks of a stranger's adapter before it enters the store, beside hashes and the allow-list of names.

`core.files` bounds sizes and headers and refuses links; here stands what a well-formed file may still try.
"""

import re
import unicodedata
from pathlib import Path
from typing import Any

from ..core.errors import Integrity
from ..core.files import read_bounded, read_json, walk
from .fit import read_lora
from .layout import CARD, CONFIG, MANIFEST

RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that Windows gives to devices, whatever follows the dot."""
SCRIPT = re.compile(
    rb"<\s*(script|iframe|object|embed|svg|meta|link|base|form)\b|\bon\w+\s*=\s*[\"'{]|"
    rb"javascript\s*:|data\s*:\s*text/html",
    re.IGNORECASE,
)
TURNING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""The characters of the bidirectional algorithm that direct it: with them a name shows as another one."""
CODE_KEYS = ("auto_mapping", "megatron_config", "custom_modules")
"""Settings of a PEFT config that make the loader import modules which the config names."""


def check_files(folder: Path) -> None:
    """Raise `Integrity` naming what an adapter folder tries, `NoEffect` for one that can change nothing.

    Reads every weight once.
    """
    names = list(walk(folder))
    check_names(names)
    check_config(read_json(folder / CONFIG))
    if CARD in names:
        check_card(read_bounded(folder / CARD))
    if MANIFEST in names:
        manifest = dict(read_json(folder / MANIFEST))
        # Probe texts come from data sets, in whose languages such characters are at home.
        manifest.pop("probe", None)
        check_text(manifest, MANIFEST)
    read_lora(folder)


def check_names(names: list[str]) -> None:
    """No two names that one file system takes for the same, none that a system takes for a device."""
    seen: dict[str, str] = {}
    for name in names:
        folded = unicodedata.normalize("NFKC", name).casefold()
        if folded in seen:
            raise Integrity(
                f"{seen[folded]!r} and {name!r} are one file on some systems", "do not use it: ask its author"
            )
        seen[folded] = name
        if any(RESERVED.fullmatch(part) for part in name.split("/")):
            raise Integrity(f"{name!r} is the name of a device on some systems", "do not use it: ask its author")


def check_config(config: Any) -> None:
    """A config is data: nothing in it may point to code."""
    if not isinstance(config, dict):
        raise Integrity(f"{CONFIG} is not a mapping", "pull it again, or ask its author")
    code_key = next((key for key in CODE_KEYS if config.get(key)), None)
    if code_key:
        raise Integrity(f"{CONFIG} points to code ({code_key})", "do not use it: ask its author")
    check_text(config, CONFIG)


def check_card(card: bytes) -> None:
    """A card is text: what a browser would run has no place in it."""
    script = SCRIPT.search(card)
    if script:
        raise Integrity(
            f"{CARD} holds a script: {script[0][:40].decode(errors='replace')!r}", "do not use it: ask its author"
        )
    check_text(card.decode(errors="replace"), CARD)


def check_text(value: Any, where: str) -> None:
    """No character that turns the direction of text in any key or text of a document."""
    stack = [value]
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            stack += [*part.keys(), *part.values()]
        elif isinstance(part, list):
            stack += part
        elif isinstance(part, str) and (character := TURNING.search(part)):
            raise Integrity(
                f"{where} holds the character U+{ord(character[0]):04X}, which turns the direction of text",
                "do not use it: ask its author",
            )
