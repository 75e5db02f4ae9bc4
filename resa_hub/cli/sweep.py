"""`sweep`: one method at many layers."""

from typing import Annotated

from . import options
from .options import Argument, Option
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
        str | None, Option("--target", help="Model to train and judge the adapters on; the source's base by default.")
    ] = None,
    method: Annotated[str | None, Option("--method", help="Method of extraction.")] = None,
    recipe: options.Recipe = None,
    seeds: Annotated[int, Option("--seeds", help="Adapters a layer: the spread of training shows with 3.", min=1)] = 1,
    settings: options.Settings = None,
    benchmark: Annotated[str, Option("--benchmark")] = "tiny-chain",
    problems: Annotated[int, Option("--problems", min=2)] = 200,
    samples: Annotated[int, Option("--samples", help="Samples a problem.", min=1)] = 2,
    controls: options.Controls = 1,
    split: Annotated[str, Option("--split", help="A layer is chosen on problems that do not judge it.")] = "dev",
    executor: Annotated[
        str, Option("--executor", help="local, or ray: layers side by side on a Ray cluster.")
    ] = "local",
    workspace: options.Workspace = None,
    dry_run: options.DryRun = False,
    out: options.Out = Output(),
) -> None:
    """Extract at many layers, judge each, and say whether layers differ at all."""
    from ..adapter.workspace import Workspace
    from ..core.progress import Progress
    from ..evaluation.plan import EvalSettings
    from ..extraction.sweep import named, planned
    from ..extraction.sweep import sweep as verb
    from .render import swept

    registry = Workspace.find(workspace).registry
    numbers, recipe = named(name, layers, recipe, registry)
    choices = {"target": target, "method": method, "recipe": recipe, "settings": settings}
    if dry_run:
        plans = planned(source, layers=numbers, family=name, registry=registry, **choices)
        return swept.planned(out, list(plans.values()), seeds)
    judging = EvalSettings(benchmark, problems, samples, controls, split, greedy=False)
    run = {"judging": judging, "executor": executor, "workspace": workspace, "progress": Progress(quiet=out.silent)}
    swept.show(out, verb(source, layers=numbers, seeds=seeds, family=name, **run, **choices))
