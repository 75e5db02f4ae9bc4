"""Verdicts kept beside an adapter, in `evals/`; its card is made again. Neither is part of its identity."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from .adapter import card
from .adapter.files import CARD, read_bounded, read_json
from .adapter.store import Adapter, Store
from .errors import NotFound

if TYPE_CHECKING:
    from .evaluate import Evaluation


SHOWN = {"verdict", "sentence", "target", "benchmark", "split"}
"""What a file in `evals/` must hold to be shown: it may be a stranger's."""


def keep(adapter: Adapter, evaluation: "Evaluation") -> Path:
    """Write the evaluation and the card anew; an older one on the same target, benchmark, split and draw is replaced."""
    folder, store = adapter.folder / "evals", Store(adapter.folder.parent.parent)
    folder.mkdir(exist_ok=True)
    target = re.sub(r"[^A-Za-z0-9._-]+", "-", evaluation.target).strip("-.") or "target"
    draw = f"-{evaluation.draw}" if evaluation.draw else ""
    path = folder / f"{target[:60]}--{evaluation.benchmark}--{evaluation.split}{draw}.json"
    with store.lock():  # two evaluations may end at once
        store.write(path, msgspec.json.format(msgspec.json.encode(evaluation), indent=2) + b"\n")
        store.write(adapter.folder / CARD, card.render(adapter.manifest, kept(adapter), present(adapter)).encode())
    return path


def present(adapter: Adapter) -> str:
    """The card as it is."""
    try:
        return read_bounded(adapter.folder / CARD).decode(errors="replace")
    except NotFound:
        return ""


def kept(adapter: Adapter) -> list[dict]:
    """The evaluations that lie beside an adapter, oldest first."""
    found = [read_json(path) for path in sorted((adapter.folder / "evals").glob("*.json"))]
    return sorted((e for e in found if isinstance(e, dict) and e.keys() >= SHOWN), key=lambda e: str(e.get("created")))
