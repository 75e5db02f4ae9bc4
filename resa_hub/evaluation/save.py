"""Verdicts kept beside an adapter, in `evals/`, each with its plot; its card is made again. None of them is part of its
identity.
"""

import re
from pathlib import Path

import msgspec

from ..adapter import card
from ..adapter.layout import CARD
from ..adapter.recorded import load_evaluations
from ..adapter.results import AnyEvaluation, in_current_words, read_evaluation
from ..adapter.store import Adapter, Store
from ..core.errors import Integrity, NotFound
from ..core.files import read_bounded, read_json

PLOT = ".png"
OF_ONE_RUN = {"created", "seconds"}
"""Fields that differ between two runs of one result."""


def save_evaluation(adapter: Adapter, evaluation: AnyEvaluation) -> Path:
    """Write the evaluation and the card anew; an older one on the same target, benchmark, split and problem seed is
    replaced.
    """
    from ..report import markdown

    folder, store = adapter.folder / "evals", Store(adapter.folder.parent.parent)
    folder.mkdir(exist_ok=True)
    path = folder / f"{_file_name(evaluation)}.json"
    encoded = msgspec.json.encode(evaluation)
    with store.lock():  # two evaluations may end at once
        unchanged = _same_result(path, encoded)
        store.write(path, msgspec.json.format(encoded, indent=2) + b"\n")
        if not unchanged or not path.with_suffix(PLOT).exists():
            _draw(path, store)
        judged = _with_plots(adapter)
        verdicts = card.Verdicts(markdown.verdicts([each for each, _ in judged]), markdown.plots(judged))
        text = card.render(adapter.manifest, load_evaluations(adapter), _current_card(adapter), verdicts)
        store.write(adapter.folder / CARD, text.encode())
    return path


def _file_name(evaluation: AnyEvaluation) -> str:
    target, benchmark = _file_part(evaluation.target, 60) or "target", _file_part(evaluation.benchmark, 44)
    seed = f"-{evaluation.problem_seed}" if evaluation.problem_seed else ""
    return f"{target}--{benchmark}--{evaluation.split}{seed}"


def _file_part(name: str, most: int) -> str:
    """A name as a part of a file's name: a harness calls its tasks as it likes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:most]


def _same_result(path: Path, encoded: bytes) -> bool:
    """Whether the file says what is about to be written there."""
    before = in_current_words(read_json(path)) if path.exists() else None
    now = msgspec.json.decode(encoded)
    return isinstance(before, dict) and all(before.get(key) == now[key] for key in now.keys() - OF_ONE_RUN)


def _draw(path: Path, store: Store) -> None:
    """The plot of the evaluation at `path`, which costs a second."""
    from ..report import plot

    store.write(path.with_suffix(PLOT), plot.draw(read_evaluation(read_json(path), path.with_suffix(PLOT).name)))


def _with_plots(adapter: Adapter) -> list[tuple[AnyEvaluation, str]]:
    """(evaluation, path of its plot or nothing), oldest first; a stranger's that cannot be read is left out."""
    evaluations = []
    for path in sorted((adapter.folder / "evals").glob("*.json")):
        try:
            evaluation = read_evaluation(read_json(path), path.name)
        except Integrity:
            continue
        evaluations.append((evaluation, f"evals/{path.stem}{PLOT}" if path.with_suffix(PLOT).exists() else ""))
    return sorted(evaluations, key=lambda pair: pair[0].created)


def _current_card(adapter: Adapter) -> str:
    try:
        return read_bounded(adapter.folder / CARD).decode(errors="replace")
    except NotFound:
        return ""
