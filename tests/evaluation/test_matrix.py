"""The matrix: rows, columns, cells that fit and cells that do not; stopped and asked for more."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from resa_hub.adapter.layout import MANIFEST
from resa_hub.adapter.workspace import Workspace
from resa_hub.cli.main import run as command
from resa_hub.core.errors import NotFound, Usage
from resa_hub.core.progress import Progress
from resa_hub.evaluation.matrix import Cell, Matrix, markdown, matrix, rows
from resa_hub.evaluation.plan import EvalSettings, quick

NAME = "tina-tiny-feature-diff-l2"
SMALL = EvalSettings(problems=30, samples=2, seeds=1, greedy=False)


def made(workspace: Path, sources: list[str], targets: list[str], executor: str = "local") -> Matrix:
    return matrix(
        sources,
        targets=targets,
        benchmarks=["tiny-chain"],
        settings=SMALL,
        executor=executor,
        workspace=workspace,
        progress=Progress(quiet=True),
    )


def stranger(workspace: Path) -> None:
    """An adapter whose base has other sizes."""
    folder = workspace / "adapters/stranger/0.1.0"
    shutil.copytree(workspace / "adapters" / NAME / "0.1.0", folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest |= {"name": "stranger", "source": "resa-hub/tiny-math"}
    manifest["base"]["shapes"]["hidden_size"] = 128
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.slow
def test_every_cell_has_its_verdict_or_says_that_it_does_not_fit(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger(workspace)
    first = made(workspace, [NAME, "stranger"], ["tiny-r1"])
    assert [(c.adapter, c.fit, c.verdict) for c in first.cells][1] == (
        "stranger@0.1.0",
        "foreign",
        "does not fit",
    ) and "hidden_size" in first.cells[1].sentence
    assert first.cells[0].verdict != "does not fit" and first.cells[0].gain is not None
    full = made(
        workspace, ["tina-tiny", "stranger"], ["tiny-r1", "tiny-r1b"]
    )  # one more column; rows by the name of the source
    assert (
        full.adapters == [f"{NAME}@0.1.0", "stranger@0.1.0"]
        and full.cells[0].gain == first.cells[0].gain
        and full.cells[1].fit == "kin"
    )
    known = [(c.p, c.p_holm) for c in full.cells if c.p is not None and c.p_holm is not None]
    assert len(known) == 2 and all(corrected >= p for p, corrected in known)
    assert max(corrected for _, corrected in known) <= 2 * max(p for p, _ in known)
    assert json.loads(Path(full.file).read_text())["cells"][0]["verdict"] == full.cells[0].verdict
    monkeypatch.setattr(
        "resa_hub.engine.generation.base.open_engine", lambda *_, **__: pytest.fail("a model was loaded")
    )
    assert made(workspace, [NAME, "stranger"], ["tiny-r1", "tiny-r1b"]).cells == full.cells
    line = [
        "matrix",
        "--sources",
        f"{NAME},stranger",
        "--targets",
        "tiny-r1,tiny-r1b",
        "--problems",
        "30",
        "--samples",
        "2",
        "--controls",
        "1",
    ]
    assert command([*line, "--workspace", str(workspace)]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[0].split() == ["tiny-chain", "tiny-r1", "tiny-r1b"] and shown.count("does not fit") == 2
    assert command([*line, "--workspace", str(workspace), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["cells"]) == 4
    assert command([*line, "--workspace", str(workspace), "--markdown"]) == 0
    assert "| tiny-r1 | tiny-r1b |" in capsys.readouterr().out
    page, again = workspace / "page.html", workspace / "again.json"
    assert (
        command([*line, "--workspace", str(workspace), "--page", str(page)]) == 0
        and str(page) in capsys.readouterr().out
    )
    assert "<!doctype html>" in page.read_text() and "2 evaluations of 1 adapter on 2 models" in page.read_text()
    assert command(["report", full.file, "--out", str(again), "--workspace", str(workspace)]) == 0
    assert [e["document"]["target"] for e in json.loads(again.read_text())["entries"]] == ["tiny-r1", "tiny-r1b"]


@pytest.mark.slow
def test_cells_side_by_side_on_ray_are_the_same(
    workspace: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes write to one store of samples."""
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    other = tmp_path_factory.mktemp("other")
    shutil.copytree(workspace / "adapters", other / "adapters")
    here, there = made(other, [NAME], ["tiny-r1", "tiny-r1b"]), made(workspace, [NAME], ["tiny-r1", "tiny-r1b"], "ray")
    assert there.cells == here.cells and all(cell.gain is not None for cell in there.cells)


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_run(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["resa_hub.evaluation.matrix"], "matrix", lambda *_, **__: pytest.fail("was run"))
    line = ["matrix", "--sources", NAME, "--targets", "tiny-r1", "--workspace", str(workspace)]
    assert (
        command([*line, "--page", str(workspace / "page.pdf")]) == 2
        and command([*line, "--page", str(workspace / "nowhere/page.html")]) == 3
    )


def test_a_matrix_without_a_cell_that_fits_has_no_page(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stranger(workspace)
    page = workspace / "page.html"
    assert (
        command(
            [
                "matrix",
                "--sources",
                "stranger",
                "--targets",
                "tiny-r1",
                "--page",
                str(page),
                "--workspace",
                str(workspace),
            ]
        )
        == 0
    )
    assert "no adapter fits" in capsys.readouterr().out and not page.exists()


def test_a_star_stands_where_the_matrix_is_sure() -> None:
    cells = [
        Cell("a@0.1.0", "t", "b", "exact", "transferred", "", 12.34, (10.0, 14.0), 0.9, 0.001, 0.002),
        Cell("c@0.1.0", "t", "b", "kin", "underpowered", "", -1.0, (-4.0, 2.0), None, 0.4, 0.4),
    ]
    text = markdown(Matrix(["a@0.1.0", "c@0.1.0"], ["t"], ["b"], 4, cells, ""))
    assert (
        "| a@0.1.0 | transferred +12.3* [+10.0, +14.0] |" in text
        and "| c@0.1.0 | underpowered -1.0 [-4.0, +2.0] |" in text
    )


@pytest.mark.parametrize(("sources", "kind"), [(["nobody"], NotFound), (["tina-still"], NotFound), ([], Usage)])
def test_rows_that_do_not_exist(workspace: Path, sources: list[str], kind: type) -> None:
    with pytest.raises(kind):
        rows(sources, Workspace(workspace))


def test_the_quick_form_is_small_and_fixed(workspace: Path) -> None:
    home = Workspace(workspace)
    small, large = quick(EvalSettings(), "tiny-r1", home), quick(EvalSettings(seed=3), "r1-distill-1.5b", home)
    assert (small.benchmark, small.problems, small.samples, small.seeds, small.new_tokens) == (
        "tiny-chain",
        200,
        2,
        1,
        None,
    )
    assert (large.benchmark, large.problems, large.samples, large.new_tokens, large.seed) == (
        "math500",
        100,
        2,
        4096,
        3,
    )
