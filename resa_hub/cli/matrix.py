from typing import Annotated

from . import options
from .options import Option
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
    engine: Annotated[str, Option("--engine", help="transformers, vllm or auto.")] = "auto",
    executor: Annotated[
        str, Option("--executor", help="local, or ray: cells side by side on a Ray cluster.")
    ] = "local",
    markdown: Annotated[bool, Option("--markdown", help="Tables for a README.")] = False,
    page: options.Page = None,
    workspace: options.Workspace = None,
    dry_run: options.DryRun = False,
    out: options.Out = Output(),
) -> None:
    """Which adapter helps which model: every cell with its verdict; goes on where it was stopped."""
    import msgspec

    from ..adapter.workspace import Workspace
    from ..core.progress import Progress
    from ..evaluation.evaluate import EvalSettings
    from ..evaluation.matrix import markdown as tables
    from ..evaluation.matrix import matrix as verb
    from ..evaluation.matrix import rows as adapters
    from ..evaluation.matrix import worded
    from ..evaluation.reports import report_of
    from ..evaluation.sampling.jobs import Engines
    from ..report.formats import check, write

    columns, names = targets.split(","), benchmarks.split(",")
    if page:
        check(page)
    if dry_run:
        rows = [adapter.manifest.reference for adapter in adapters(sources.split(","), Workspace.find(workspace))]
        cells = [[row, target, name] for row in rows for target in columns for name in names]
        if not out.data({"cells": cells}, str(len(cells))):
            out.table(["adapter", "target", "benchmark"], cells)
        return
    settings = EvalSettings(
        problems=problems,
        samples=samples,
        seeds=controls,
        split=split,
        problem_seed=problem_seed,
        greedy=False,
        engines=Engines(engine),
    )
    made = verb(
        sources.split(","),
        targets=columns,
        benchmarks=names,
        settings=settings,
        executor=executor,
        workspace=workspace,
        progress=Progress(quiet=out.silent),
    )
    if page and made.evaluations:
        write(report_of(made.evaluations, Workspace.find(workspace)), page)
    if out.data(msgspec.to_builtins(made), "\n".join(cell.verdict for cell in made.cells)):
        return
    if markdown:
        out.text(tables(made))
        return
    cells = {(c.adapter, c.target, c.benchmark): worded(c) for c in made.cells}
    for name in made.benchmarks:
        out.table(
            [name, *made.targets], [[a, *(cells[a, target, name] for target in made.targets)] for a in made.adapters]
        )
    out.text("gain over base in points; * p < 0.05 for any difference from base, corrected by Holm over all cells")
    out.hint(f"kept in {made.file}")
    if page:
        out.text(
            f"{page}  {page.stat().st_size / 1e3:,.0f} kB"
            if made.evaluations
            else f"{page} was not written: no adapter fits a target"
        )
