"""`matrix`: adapters x models x benchmarks."""

from typing import Annotated

from typer import Option

from . import ask, options
from .output import Output


def matrix(
    sources: Annotated[
        str,
        Option("--sources", help="The rows: adapters of the store, or models whose adapters are meant; with commas."),
    ],
    targets: Annotated[str, Option("--targets", help="The columns: models, with commas.")],
    benchmarks: Annotated[str, Option("--benchmarks", help="With commas.")] = "tiny-chain",
    problems: Annotated[int | None, Option("--problems", min=2)] = None,
    samples: Annotated[int, Option("--samples", help="Samples a problem.", min=1)] = 4,
    controls: options.Controls = 3,
    split: Annotated[str | None, Option("--split")] = None,
    problem_seed: options.ProblemSeed = 0,
    new_tokens: options.NewTokens = None,
    engine: Annotated[str, Option("--engine", help="transformers, vllm or auto.")] = "auto",
    executor: Annotated[
        str, Option("--executor", help="local, or ray: cells side by side on a Ray cluster.")
    ] = "local",
    markdown: Annotated[bool, Option("--markdown", help="Tables for a README.")] = False,
    page: options.Page = None,
    rate: options.Rate = None,
    yes: options.Yes = False,
    workspace: options.Workspace = None,
    dry_run: options.DryRun = False,
    out: options.Out = Output(),
) -> None:
    """Which adapter helps which model: a verdict in every cell.

    A matrix that was stopped goes on where it was.
    """
    from ..adapter.workspace import Workspace
    from ..core.progress import Progress
    from ..evaluation.matrix import matrix as verb
    from ..evaluation.matrix_plan import forecast_matrix
    from ..evaluation.plan import EvalSettings
    from ..evaluation.question import check_usual_benchmark
    from ..evaluation.sampling.engines import Engines
    from .render import grid
    from .render import page as report

    adapters, columns, names = sources.split(","), targets.split(","), benchmarks.split(",")
    opened = Workspace.find(workspace)
    report.check(page)
    if not options.given("benchmarks"):
        for column in filter(None, columns):
            check_usual_benchmark(column, opened)
    sizes = {"problems": problems, "samples": samples, "seeds": controls, "split": split, "problem_seed": problem_seed}
    settings = EvalSettings(**sizes, greedy=False, engines=Engines(engine), new_tokens=new_tokens)
    told = forecast_matrix(adapters, columns, names, settings, executor, opened, rate)
    if dry_run:
        return grid.planned(out, told, page)
    ask.before_long_run(out, told.estimate, yes)
    run = {"executor": executor, "workspace": workspace, "progress": Progress(quiet=out.silent)}
    made = verb(adapters, targets=columns, benchmarks=names, settings=settings, **run)
    report.write(made.evaluations, opened, page)
    grid.show(out, made, markdown, page)
