"""One small evaluation for many tests, and what it left in its workspace."""

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from resa_hub.adapter.results import Evaluation
from resa_hub.adapter.store import Adapter
from resa_hub.core.progress import Progress
from resa_hub.evaluation.evaluate import evaluate
from resa_hub.evaluation.plan import EvalSettings

NAME = "tina-tiny-feature-diff-l2"
SMALL = EvalSettings(problems=40, samples=2, seeds=2)
ARMS = 5  # base, source, adapter, two controls


@pytest.fixture(scope="session")
def judged(made: Adapter, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Evaluation]:
    """A workspace with one evaluation of 40 problems; read it, change copies only."""
    workspace = tmp_path_factory.mktemp("judged")
    shutil.copytree(made.folder.parent.parent, workspace / "adapters")
    return workspace, run(workspace)


@pytest.fixture
def again(judged: tuple[Path, Evaluation], tmp_path: Path) -> Path:
    shutil.copytree(judged[0], tmp_path / "copy")
    return tmp_path / "copy"


def run(
    workspace: Path,
    settings: EvalSettings = SMALL,
    target: str = "tiny-r1",
    names: str | list[str] = NAME,
    record: bool = True,
) -> Evaluation:
    return evaluate(
        names, target=target, settings=settings, workspace=workspace, progress=Progress(quiet=True), record=record
    )[0]


def numbers(evaluation: Evaluation) -> dict[str, object]:
    """All but the time it took."""
    return {key: value for key, value in msgspec.to_builtins(evaluation).items() if key not in ("created", "seconds")}


def ask(workspace: Path, query: str, *values: Any) -> list[Any]:
    """Straight from the file."""
    with sqlite3.connect(workspace / ".resa-hub/samples.sqlite") as db:
        return db.execute(query, values).fetchall()


def counts(workspace: Path) -> list[int]:
    """Samples of every set."""
    return sorted(count for (count,) in ask(workspace, "SELECT count(*) FROM samples GROUP BY set_id"))


@pytest.fixture
def no_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "resa_hub.engine.generation.base.open_engine", lambda *_, **__: pytest.fail("a model was loaded")
    )
