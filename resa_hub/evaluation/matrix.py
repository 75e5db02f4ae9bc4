"""`matrix`: which adapter helps which model on which benchmark; every cell with its verdict."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from ..adapter import fit as compat
from ..adapter.results import Evaluation
from ..adapter.store import Adapter
from ..adapter.workspace import Workspace, WorkspaceLike
from ..core.errors import NoEffect, NotFound, Usage
from ..core.executors import run
from ..core.progress import Progress
from ..core.strict import canonical_digest
from ..data.snapshots import locate
from ..hub.resolve import choose, find
from . import statistics
from .evaluate import EvalSettings, evaluate

FOREIGN = "does not fit"


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
    adapters = rows(sources, workspace)
    if not targets or not benchmarks:
        raise Usage("a matrix needs targets and benchmarks", "--targets tiny-r1,tiny-r1b --benchmarks tiny-chain")
    fits = {
        (a.manifest.reference, target): _fit(a, target, workspace)
        for target in dict.fromkeys(targets)
        for a in adapters
    }
    groups: dict[tuple[str, str, str], list[str]] = {}  # adapters of one source share an engine, base and source
    for benchmark in dict.fromkeys(benchmarks):
        for target in dict.fromkeys(targets):
            for a in adapters:
                if fits[a.manifest.reference, target][0] != "foreign":
                    groups.setdefault((target, benchmark, a.manifest.source), []).append(a.manifest.reference)
    quiet = progress.quiet or executor != "local"
    tasks = [
        functools.partial(_judge, names, target, replace(settings, benchmark=b), workspace.folder, quiet)
        for (target, b, _), names in groups.items()
    ]
    judged: dict[tuple[str, str, str], Evaluation] = {}
    with progress.stage("matrix", len(tasks), "evaluations") as advance:
        for place, results in run(tasks, executor):
            target, benchmark, _ = list(groups)[place]
            judged.update({(result.adapter, target, benchmark): result for result in results})
            advance(1)
    found = {
        (a, t, b): judged[a, t, b] for (t, b, _), names in groups.items() for a in names
    }  # in this order, whichever ended first
    return _matrix(
        adapters, list(dict.fromkeys(targets)), list(dict.fromkeys(benchmarks)), fits, found, settings, workspace
    )


def markdown(made: Matrix) -> str:
    """A table a benchmark: adapters down, targets across. An asterisk: p < 0.05, corrected over the whole matrix."""
    cells = {(c.adapter, c.target, c.benchmark): c for c in made.cells}
    parts = []
    for benchmark in made.benchmarks:
        lines = [
            f"| {benchmark}: gain over base, points | " + " | ".join(made.targets) + " |",
            "|---" * (len(made.targets) + 1) + "|",
        ]
        lines += [
            f"| {a} | " + " | ".join(worded(cells[a, target, benchmark]) for target in made.targets) + " |"
            for a in made.adapters
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + (
        "\n\n`*` p < 0.05 for any difference from base, corrected by Holm over all cells; brackets: 95%, uncorrected.\n"
    )


def worded(cell: Cell) -> str:
    """`transferred +50.8* [+46.1, +55.5]`, or `does not fit`."""
    if cell.gain is None or cell.gain_ci is None:
        return cell.verdict
    low, high = cell.gain_ci
    return (
        f"{cell.verdict} {cell.gain:+.1f}{'*' if cell.p_holm is not None and cell.p_holm < 0.05 else ''} "
        f"[{low:+.1f}, {high:+.1f}]"
    )


def rows(sources: Sequence[str], workspace: Workspace) -> list[Adapter]:
    """The adapters that these names mean, each once; raises `NotFound`."""
    found: dict[str, Adapter] = {}
    for text in dict.fromkeys(sources):
        if text not in workspace.store.names() and workspace.registry.model_entry(text):
            ref = str(workspace.registry.model(text))
            made = [a for a in workspace.store.readable()[0] if a.manifest.source == ref]
            if not made:
                raise NotFound(
                    f"no adapter in {workspace.store.root} was extracted from {text}",
                    f"resa-hub extract --source {text}",
                )
        else:
            made = [find(text, workspace)]
        found.update({a.manifest.reference: a for a in made})
    if not found:
        raise Usage("a matrix needs adapters", "--sources NAME,NAME or the name of a source model")
    return list(found.values())


def _fit(adapter: Adapter, target: str, workspace: Workspace) -> tuple[str, str]:
    """(level, reason)."""
    files = locate(choose(adapter.manifest.reference, target, workspace.registry).target.base)
    try:
        fit = compat.assess(adapter.manifest.base, compat.read_lora(adapter.folder, zero=True), files)
    except NoEffect as error:
        return "foreign", error.message
    return fit.level, fit.reason


def _judge(names: list[str], target: str, settings: EvalSettings, folder: Path, quiet: bool) -> list[Evaluation]:
    """One task: it can run in another process."""
    return evaluate(names, target=target, settings=settings, workspace=folder, progress=Progress(quiet=quiet))


def _matrix(
    adapters: list[Adapter],
    targets: list[str],
    benchmarks: list[str],
    fits: dict[tuple[str, str], tuple[str, str]],
    found: dict[tuple[str, str, str], Evaluation],
    settings: EvalSettings,
    workspace: Workspace,
) -> Matrix:
    corrected = dict(zip(found, statistics.holm([e.p for e in found.values()]), strict=True))
    cells = []
    for a in (adapter.manifest.reference for adapter in adapters):
        for target in targets:
            for benchmark in benchmarks:
                level, reason = fits[a, target]
                e = found.get((a, target, benchmark))
                cells.append(
                    Cell(a, target, benchmark, level, FOREIGN, reason)
                    if e is None
                    else Cell(
                        a,
                        target,
                        benchmark,
                        level,
                        e.verdict,
                        e.sentence,
                        e.gain,
                        e.gain_ci,
                        e.retained,
                        e.p,
                        corrected[a, target, benchmark],
                    )
                )
    names = [adapter.manifest.reference for adapter in adapters]
    digest = canonical_digest(
        [names, targets, benchmarks, settings.samples, settings.problems, settings.draw]
    ).partition(":")[2][:12]
    path = workspace.cache / "matrices" / f"{digest}.json"
    made = Matrix(names, targets, benchmarks, settings.samples, cells, str(path), list(found.values()))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n")
    return made
