"""Judging: `evaluate`, `matrix`, `write_report`."""

import os
from collections.abc import Sequence
from pathlib import Path

from ..adapter.recorded import load_evaluations
from ..adapter.results import AnyEvaluation, Evaluation, read_evaluation
from ..adapter.workspace import Workspace, WorkspaceLike
from ..core.notebook import Listing
from ..core.progress import Progress
from ..evaluation import evaluate as evaluation
from ..evaluation import matrix as matrices
from ..evaluation import plan, reports
from ..evaluation.matrix import Matrix
from ..evaluation.plan import EvalSettings
from ..evaluation.question import check_usual_benchmark
from ..hub.resolve import resolve_adapter
from ..report import write_report as formats
from .choices import JUDGING, AdapterLike, Words, eval_settings, reference, references, words
from .given import given, knows_given


@knows_given
def evaluate(
    names: AdapterLike | Sequence[AdapterLike],
    *,
    target: str,
    benchmark: str = "tiny-chain",
    problems: int | None = None,
    samples: int = 4,
    controls: int = 3,
    split: str | None = None,
    seed: int = 0,
    problem_seed: int = 0,
    choosing: bool = False,
    greedy: bool = True,
    arms: Words = "usual",
    new_tokens: int | None = None,
    engine: str = "auto",
    dtype: str = "auto",
    workers: int = 1,
    tensor_parallel: int = 1,
    lora: str = "auto",
    gpu_memory: float | None = None,
    tolerance: float | None = None,
    quick: bool = False,
    settings: EvalSettings | None = None,
    force: bool = False,
    workspace: WorkspaceLike = None,
    progress: Progress | None = None,
    record: bool = True,
) -> Listing[Evaluation]:
    """Judge adapters of one source against base, source and random controls; the keywords are the options of `eval`.

    names: one adapter or several. problems: None takes all of a fixed benchmark. samples: of each problem. controls:
    random adapters of equal norm for each adapter. new_tokens: budget of an answer; None takes the benchmark's. quick:
    the small preset. settings: where to start from instead of the defaults; a keyword that is written beats both.
    record: keep the verdicts beside the adapters.

    Returns a document for each adapter, gains in points, scores in percent. Samples that exist are not generated
    again. Raises `NotFound`, `Usage`, `DoesNotFit`, `NoEffect`, and `RunFailed` when a control changes nothing.
    """
    options = given(locals(), JUDGING)
    start, opened, adapters = settings or EvalSettings(), Workspace.find(workspace), references(names)
    plan.chosen(adapters, target, opened)  # a missing one is said before anything is asked of the target
    if quick:
        start = plan.quick(start, target, opened, benchmark=options.get("benchmark"))
    elif not settings and "benchmark" not in options:
        check_usual_benchmark(target, opened)
    run = {"workspace": opened, "force": force, "progress": progress, "record": record}
    chosen = eval_settings(start, options)
    return Listing(evaluation.evaluate(adapters, target=target, settings=chosen, **run))


@knows_given
def matrix(
    sources: AdapterLike | Sequence[AdapterLike],
    *,
    targets: Words,
    benchmarks: Words = "tiny-chain",
    problems: int | None = None,
    samples: int = 4,
    controls: int = 3,
    split: str | None = None,
    problem_seed: int = 0,
    new_tokens: int | None = None,
    engine: str = "auto",
    executor: str = "local",
    settings: EvalSettings | None = None,
    workspace: WorkspaceLike = None,
    progress: Progress | None = None,
) -> Matrix:
    """Which adapter helps which model on which benchmark: a verdict in every cell. Keywords as in `evaluate`.

    sources: the rows: adapters, or models whose adapters are meant. targets, benchmarks: the columns and the tables.
    executor: local, or ray for cells side by side on a Ray cluster. Cells of unrelated weights say so. What was
    stopped goes on. Raises the errors of `evaluate`.
    """
    options = given(locals(), JUDGING)
    chosen = eval_settings(settings or EvalSettings(greedy=False), options)
    for column in () if given(locals(), ["benchmarks"]) else filter(None, words(targets)):
        check_usual_benchmark(column, Workspace.find(workspace))
    rows = words(sources) if isinstance(sources, str) else references(sources)
    run = {"settings": chosen, "executor": executor, "workspace": workspace, "progress": progress}
    return matrices.matrix(rows, targets=words(targets), benchmarks=words(benchmarks), **run)


def write_report(
    names: AdapterLike | Sequence[AdapterLike] = (),
    *,
    to: str | os.PathLike[str] | None = None,
    target: str | None = None,
    benchmark: str | None = None,
    samples: int = 2000,
    published: Sequence[str] = (),
    workspace: WorkspaceLike = None,
) -> Path:
    """Write evaluations as one page, and return its path.

    names: adapters, or JSON files of evaluations; everything of the store without one. to: page.html, page.md or
    page.json; by default an HTML file that its adapter names. target, benchmark: only evaluations there. samples:
    completions that the page embeds for each evaluation. published: results of the registry to draw beside. Raises
    `NotFound` where nothing was judged, `Integrity`, `Usage`.
    """
    named = references(names)
    report = reports.collect_report(reports.ReportQuery(named, target, benchmark, samples, published), workspace)
    path = Path(to) if to else Path(formats.default_name(report))
    formats.write(report, path)
    return path


def evaluations(name: AdapterLike, *, workspace: WorkspaceLike = None) -> Listing[AnyEvaluation]:
    """The evaluations that lie beside an adapter, oldest first. Raises `NotFound`, and `Integrity` for a broken one."""
    adapter = resolve_adapter(reference(name), Workspace.find(workspace))
    where = f"an evaluation of {adapter.manifest.reference}"
    return Listing(read_evaluation(document, where) for document in load_evaluations(adapter))
