"""`matrix`: which adapter helps which model on which benchmark; every cell with its verdict."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec

from ..adapter.fit import Fit
from ..adapter.results import Evaluation
from ..adapter.workspace import Workspace, WorkspaceLike
from ..core.executors import run_tasks
from ..core.notebook import Verdict, line, table
from ..core.progress import Progress
from ..core.quantities import count
from ..core.strict import canonical_digest
from ..data.snapshots import locate
from . import statistics
from .evaluate import evaluate
from .matrix_plan import Group, fit_of, groups_of, preview, rows
from .question import EvalSettings

FOREIGN = "does not fit"
SIGNIFICANT = 0.05


class CellKey(NamedTuple):
    """Which cell of the matrix."""

    adapter: str
    target: str
    benchmark: str


class Cell(msgspec.Struct, frozen=True):
    """One adapter on one target and benchmark. Gains in points over base; null where there is no verdict."""

    adapter: str
    target: str
    benchmark: str
    fit: str
    verdict: str
    """A word of the rule, or `does not fit`."""
    sentence: str
    gain: float | None = None
    gain_ci: tuple[float, float] | None = None
    retained: float | None = None
    p: float | None = None
    p_holm: float | None = None
    """p of adapter - base, two-sided, corrected over all cells of the matrix."""

    def __repr__(self) -> str:
        return line("Cell", f"{self.adapter} on {self.target}, {self.benchmark}: {worded(self)}")

    def _cells(self) -> dict[str, str]:
        return {
            "adapter": self.adapter,
            "target": self.target,
            "benchmark": self.benchmark,
            "verdict": Verdict(self.verdict),
            "in words": self.sentence,
        }


class Matrix(msgspec.Struct, frozen=True):
    adapters: list[str]
    targets: list[str]
    benchmarks: list[str]
    samples: int
    cells: list[Cell]
    """Adapter by adapter, target by target, benchmark by benchmark."""
    file: str
    evaluations: list[Evaluation] = []
    """Of the cells that fit: what `report` draws."""

    def __repr__(self) -> str:
        sides = [(self.adapters, "adapter"), (self.targets, "target"), (self.benchmarks, "benchmark")]
        return line("Matrix", " x ".join(count(len(names), what) for names, what in sides))

    def _repr_html_(self) -> str:
        """A table a benchmark: adapters down, targets across."""
        cells = {CellKey(c.adapter, c.target, c.benchmark): Verdict(worded(c)) for c in self.cells}
        return "".join(
            table(
                [
                    {f"{benchmark}: gain over base, points": adapter}
                    | {target: cells[CellKey(adapter, target, benchmark)] for target in self.targets}
                    for adapter in self.adapters
                ]
            )
            for benchmark in self.benchmarks
        )


def matrix(
    sources: Sequence[str],
    *,
    targets: Sequence[str],
    benchmarks: Sequence[str],
    settings: EvalSettings = EvalSettings(),
    executor: str = "local",
    workspace: WorkspaceLike = None,
    progress: Progress | None = None,
) -> Matrix:
    """Rows are adapters of the store: those that `sources` name, and for a model's name all that were extracted from
    it.

    A pair whose weights are unrelated is a cell that says so. Cells are evaluations like any other: samples that exist
    are not generated again, so a matrix that was stopped, or asked for one more row, goes on. Raises the errors of
    `evaluate`.
    """
    workspace, progress = Workspace.find(workspace), progress or Progress()
    seen = preview(sources, targets, benchmarks, settings, executor, workspace)
    adapters, targets, benchmarks = rows(sources, workspace), seen.targets, seen.benchmarks
    files = {target: locate(workspace.registry.require_base_model(target).base) for target in targets}
    fits = {(a.manifest.reference, target): fit_of(a, files[target]) for target in targets for a in adapters}
    groups = groups_of(adapters, targets, benchmarks, fits)
    evaluations = _evaluations(groups, settings, executor, workspace, progress)
    names = [a.manifest.reference for a in adapters]
    path = _path(names, targets, benchmarks, settings, workspace)
    cells = _cells(names, targets, benchmarks, fits, evaluations)
    result = Matrix(names, targets, benchmarks, settings.samples, cells, str(path), list(evaluations.values()))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    return result


def markdown(matrix: Matrix) -> str:
    """A table a benchmark: adapters down, targets across. An asterisk: p < 0.05, corrected over the whole matrix."""
    cells = {CellKey(c.adapter, c.target, c.benchmark): worded(c) for c in matrix.cells}
    tables = []
    for benchmark in matrix.benchmarks:
        lines = [[f"{benchmark}: gain over base, points", *matrix.targets]]
        lines += [[a, *(cells[CellKey(a, target, benchmark)] for target in matrix.targets)] for a in matrix.adapters]
        head, *body = [f"| {' | '.join(line)} |" for line in lines]
        tables.append("\n".join([head, "|---" * (len(matrix.targets) + 1) + "|", *body]))
    return "\n\n".join(tables) + (
        "\n\n`*` p < 0.05 for any difference from base, corrected by Holm over all cells; brackets: 95%, uncorrected.\n"
    )


def worded(cell: Cell) -> str:
    """`transferred +50.8* [+46.1, +55.5]`, or `does not fit`."""
    if cell.gain is None or cell.gain_ci is None:
        return cell.verdict
    low, high = cell.gain_ci
    star = "*" if cell.p_holm is not None and cell.p_holm < SIGNIFICANT else ""
    return f"{cell.verdict} {cell.gain:+.1f}{star} [{low:+.1f}, {high:+.1f}]"


def _evaluations(
    groups: dict[Group, list[str]], settings: EvalSettings, executor: str, workspace: Workspace, progress: Progress
) -> dict[CellKey, Evaluation]:
    """In the order of the groups, whichever ends first."""
    folder, quiet = workspace.folder, progress.quiet or executor != "local"
    tasks = [
        functools.partial(_judge, names, group.target, replace(settings, benchmark=group.benchmark), folder, quiet)
        for group, names in groups.items()
    ]
    order, results = list(groups), {}
    with progress.stage("matrix", len(tasks), "evaluations") as advance:
        for number, evaluations in run_tasks(tasks, executor):
            results |= {(order[number], e.adapter): e for e in evaluations}
            advance(1)
    return {
        CellKey(name, group.target, group.benchmark): results[group, name]
        for group, names in groups.items()
        for name in names
    }


def _judge(names: list[str], target: str, settings: EvalSettings, folder: Path, quiet: bool) -> list[Evaluation]:
    """One task: it can run in another process."""
    return evaluate(names, target=target, settings=settings, workspace=folder, progress=Progress(quiet=quiet))


def _cells(
    adapters: list[str],
    targets: list[str],
    benchmarks: list[str],
    fits: dict[tuple[str, str], Fit],
    evaluations: dict[CellKey, Evaluation],
) -> list[Cell]:
    """Of every combination, evaluated or not; p values corrected over those that were."""
    p_holm = dict(zip(evaluations, statistics.holm([e.p for e in evaluations.values()]), strict=True))
    cells = []
    for key in (CellKey(a, target, benchmark) for a in adapters for target in targets for benchmark in benchmarks):
        fit, e = fits[key.adapter, key.target], evaluations.get(key)
        if e is None:
            cells.append(Cell(*key, fit=fit.level, verdict=FOREIGN, sentence=fit.reason))
            continue
        cells.append(
            Cell(
                *key,
                fit=fit.level,
                verdict=e.verdict,
                sentence=e.sentence,
                gain=e.gain,
                gain_ci=e.gain_ci,
                retained=e.retained,
                p=e.p,
                p_holm=p_holm[key],
            )
        )
    return cells


def _path(
    adapters: list[str], targets: list[str], benchmarks: list[str], settings: EvalSettings, workspace: Workspace
) -> Path:
    """One file for each question that a matrix answers."""
    question = [adapters, targets, benchmarks, settings.samples, settings.problems, settings.problem_seed]
    digest = canonical_digest(question).partition(":")[2][:12]
    return workspace.cache / "matrices" / f"{digest}.json"
