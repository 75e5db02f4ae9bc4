"""The matrix: rows, columns, cells that fit and cells that do not; stopped and asked for more."""

import json
import shutil
from pathlib import Path

import pytest

from resa_hub.adapter.files import MANIFEST
from resa_hub.cli.app import run as command
from resa_hub.errors import NotFound, Usage
from resa_hub.evaluate import Settings, quick
from resa_hub.matrix import Cell, Matrix, markdown, matrix, rows
from resa_hub.progress import Progress
from resa_hub.workspace import Workspace

NAME = "tina-tiny-feature-diff-l2"
SMALL = Settings(problems=30, samples=2, seeds=1, greedy=False)


def made(workspace: Path, sources: list[str], targets: list[str], executor: str = "local") -> Matrix:
    return matrix(sources, targets=targets, benchmarks=["tiny-chain"], settings=SMALL, executor=executor, workspace=workspace, progress=Progress(quiet=True))


def stranger(workspace: Path) -> None:
    """An adapter whose base has other sizes."""
    folder = workspace / "adapters/stranger/0.1.0"
    shutil.copytree(workspace / "adapters" / NAME / "0.1.0", folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest |= {"name": "stranger", "source": "resa-hub/tiny-math"}
    manifest["base"]["shapes"]["hidden_size"] = 128
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.slow
def test_every_cell_has_its_verdict_or_says_that_it_does_not_fit(workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    stranger(workspace)
    first = made(workspace, [NAME, "stranger"], ["tiny-r1"])
    assert [(c.adapter, c.fit, c.verdict) for c in first.cells][1] == ("stranger@0.1.0", "foreign", "does not fit") and "hidden_size" in first.cells[1].sentence
    assert first.cells[0].verdict != "does not fit" and first.cells[0].gain is not None
    full = made(workspace, ["tina-tiny", "stranger"], ["tiny-r1", "tiny-r1b"])  # one more column; rows by the name of the source
    assert full.adapters == [f"{NAME}@0.1.0", "stranger@0.1.0"] and full.cells[0].gain == first.cells[0].gain and full.cells[1].fit == "kin"
    known = [c for c in full.cells if c.p is not None and c.p_holm is not None]
    assert len(known) == 2 and all(c.p_holm >= c.p for c in known) and max(c.p_holm for c in known) <= 2 * max(c.p for c in known)  # pyright: ignore
    assert json.loads(Path(full.file).read_text())["cells"][0]["verdict"] == full.cells[0].verdict
    monkeypatch.setattr("resa_hub.engine.generate.engines.open_engine", lambda *_, **__: pytest.fail("a model was loaded"))
    assert made(workspace, [NAME, "stranger"], ["tiny-r1", "tiny-r1b"]).cells == full.cells
    line = ["matrix", "--sources", f"{NAME},stranger", "--targets", "tiny-r1,tiny-r1b", "--problems", "30", "--samples", "2", "--controls", "1"]
    assert command([*line, "--workspace", str(workspace)]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[0].split() == ["tiny-chain", "tiny-r1", "tiny-r1b"] and shown.count("does not fit") == 2
    assert command([*line, "--workspace", str(workspace), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["cells"]) == 4
    assert command([*line, "--workspace", str(workspace), "--markdown"]) == 0
    assert "| tiny-r1 | tiny-r1b |" in capsys.readouterr().out


def test_a_star_stands_where_the_matrix_is_sure() -> None:
    cells = [
        Cell("a@0.1.0", "t", "b", "exact", "transferred", "", 12.34, (10.0, 14.0), 0.9, 0.001, 0.002),
        Cell("c@0.1.0", "t", "b", "kin", "underpowered", "", -1.0, (-4.0, 2.0), None, 0.4, 0.4),
    ]
    text = markdown(Matrix(["a@0.1.0", "c@0.1.0"], ["t"], ["b"], 4, cells, ""))
    assert "| a@0.1.0 | transferred +12.3* [+10.0, +14.0] |" in text and "| c@0.1.0 | underpowered -1.0 [-4.0, +2.0] |" in text


@pytest.mark.parametrize(("sources", "kind"), [(["nobody"], NotFound), (["tina-still"], NotFound), ([], Usage)])
def test_rows_that_do_not_exist(workspace: Path, sources: list[str], kind: type) -> None:
    with pytest.raises(kind):
        rows(sources, Workspace(workspace))


def test_the_quick_form_is_small_and_fixed(workspace: Path) -> None:
    home = Workspace(workspace)
    small, large = quick(Settings(), "tiny-r1", home), quick(Settings(seed=3), "r1-distill-1.5b", home)
    assert (small.benchmark, small.problems, small.samples, small.seeds, small.new_tokens) == ("tiny-chain", 200, 2, 1, None)
    assert (large.benchmark, large.problems, large.samples, large.new_tokens, large.seed) == ("math500", 100, 2, 4096, 3)
