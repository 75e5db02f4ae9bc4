"""Verdicts kept beside an adapter, in `evals/`, each with its plot; its card is made again. None of them is part of its
identity.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ..adapter import card
from ..adapter.layout import CARD
from ..adapter.results import current_card, load_evaluations
from ..adapter.store import Adapter, Store
from ..core.errors import Integrity
from ..core.files import read_json

if TYPE_CHECKING:
    from ..adapter.results import Evaluation, ImportedEvaluation
PLOT = ".png"
WHEN = {"created", "seconds"}
"""What differs between two runs that say the same."""


def save_evaluation(adapter: Adapter, evaluation: "Evaluation | ImportedEvaluation") -> Path:
    """Write the evaluation and the card anew; an older one on the same target, benchmark, split and draw is
    replaced.
    """
    from ..report import markdown

    folder, store = adapter.folder / "evals", Store(adapter.folder.parent.parent)
    folder.mkdir(exist_ok=True)
    draw = f"-{evaluation.draw}" if evaluation.draw else ""
    target, benchmark = _fitting(evaluation.target, 60) or "target", _fitting(evaluation.benchmark, 44)
    path = folder / f"{target}--{benchmark}--{evaluation.split}{draw}.json"
    encoded = msgspec.json.encode(evaluation)
    with store.lock():  # two evaluations may end at once
        before = read_json(path) if path.exists() else None
        store.write(path, msgspec.json.format(encoded, indent=2) + b"\n")
        _draw(before, msgspec.json.decode(encoded), path.with_suffix(PLOT), store)
        text = card.render(
            adapter.manifest, load_evaluations(adapter), current_card(adapter), markdown.card(_shown(adapter))
        )
        store.write(adapter.folder / CARD, text.encode())
    return path


def _fitting(name: str, most: int) -> str:
    """A name as a part of a file's name: a harness calls its tasks as it likes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:most]


def _draw(before: Any, now: dict, path: Path, store: Store) -> None:
    """The plot anew, unless it would be the same: drawing costs a second."""
    if (
        path.exists()
        and isinstance(before, dict)
        and all(before.get(key) == value for key, value in now.items() if key not in WHEN)
    ):
        return
    from ..report import data, plot

    store.write(path, plot.draw(data.document(now, path.name)))


def _shown(adapter: Adapter) -> list[tuple[Any, str]]:
    """(document, path of its plot or nothing), oldest first; a stranger's document that cannot be read is left out."""
    from ..report import data

    found = []
    for path in sorted((adapter.folder / "evals").glob("*.json")):
        try:
            document = data.document(read_json(path), path.name)
        except Integrity:
            continue
        found.append((document, f"evals/{path.stem}{PLOT}" if path.with_suffix(PLOT).exists() else ""))
    return sorted(found, key=lambda pair: pair[0].created)
