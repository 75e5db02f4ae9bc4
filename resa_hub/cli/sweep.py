"""`sweep`: one method at many layers."""

from typing import Annotated

from typer import Argument, Option

from . import ask, complete, options
from .output import Output


def sweep(
    name: Annotated[
        str | None, Argument(help="A sweep of the registry, as resa-still-v1-layer; else --layers.")
    ] = None,
    layers: Annotated[
        str | None, Option("--layers", help="Layers of the hookpoint, 0-based: 1-26, or 0,2,5-7.")
    ] = None,
    source: options.Source = None,
    target: Annotated[
        str | None,
        Option(
            "--target",
            help="Model to train and judge the adapters on; the source's base by default.",
            autocompletion=complete.models,
        ),
    ] = None,
    method: Annotated[
        str | None, Option("--method", help="Method of extraction.", autocompletion=complete.methods)
    ] = None,
    data: Annotated[str | None, Option("--data", help="Problems to extract with: name, Hub id or ./file.")] = None,
    recipe: options.Recipe = None,
    seeds: Annotated[int, Option("--seeds", help="Adapters a layer: the spread of training shows with 3.", min=1)] = 1,
    settings: options.Settings = None,
    benchmark: Annotated[
        str, Option("--benchmark", help="NAME, FILE or NAME=FILE.", autocompletion=complete.benchmarks)
    ] = "tiny-chain",
    problems: Annotated[
        int, Option("--problems", help="Up to 200 of a smaller benchmark when not given.", min=2)
    ] = 200,
    samples: Annotated[int, Option("--samples", help="Samples a problem.", min=1)] = 2,
    controls: options.Controls = 1,
    split: Annotated[str, Option("--split", help="A layer is chosen on problems that do not judge it.")] = "dev",
    new_tokens: options.NewTokens = None,
    executor: Annotated[
        str, Option("--executor", help="local, or ray: layers side by side on a Ray cluster.")
    ] = "local",
    sae: Annotated[bool, Option("--sae", help="Keep the SAE of each adapter, which takes the most disk.")] = False,
    rate: options.Rate = None,
    yes: options.Yes = False,
    workspace: options.Workspace = None,
    dry_run: options.DryRun = False,
    out: options.Out = Output(),
) -> None:
    """Extract at many layers, and say whether layers differ at all.

    Every adapter is judged on a split of its own; a sweep that was stopped goes on.
    """
    from ..adapter.workspace import Workspace
    from ..core.progress import Progress
    from ..evaluation.plan import EvalSettings
    from ..extraction.sweep import named, planned
    from ..extraction.sweep import sweep as verb
    from ..extraction.sweep_plan import forecast_sweep, usual_judging
    from ..extraction.used_settings import check_used
    from .render import swept

    opened = Workspace.find(workspace)
    numbers, recipe = named(name, layers, recipe, opened.registry)
    choices = {"target": target, "method": method, "data": data, "recipe": recipe, "settings": settings}
    judging = EvalSettings(benchmark, problems, samples, controls, split, greedy=False, new_tokens=new_tokens)
    plans = planned(source, layers=numbers, seeds=seeds, family=name, registry=opened.registry, **choices)
    written = [name for name in ("benchmark", "problems") if options.given(name)]
    judging = usual_judging(plans, judging, written, opened)
    named_keys = [name for name in ("method", "source", "target") if options.given(name)]
    for plan in plans.values():
        check_used(plan.recipe, named_keys, settings or ())
    told = forecast_sweep(plans, judging, executor, opened, rate)
    if dry_run:
        return swept.planned(out, plans, told, sae)
    ask.before_long_run(out, told.estimate, yes)
    run = {"judging": judging, "executor": executor, "keep_saes": sae, "workspace": workspace}
    progress = Progress(quiet=out.silent)
    swept.show(out, verb(source, layers=numbers, seeds=seeds, family=name, progress=progress, **run, **choices))
