"""`extract`: an adapter from a source model."""

from typing import Annotated, Any

from ..config.methods import HELP as METHODS_HELP
from . import options
from .options import Option, OptionGroup
from .output import Output
from .render import costs, forecast, screen_trials

Target = Annotated[str | None, Option("--target", help="Model to train the adapter on; the source's base by default.")]
Layer = Annotated[str | None, Option("--layer", help="Hookpoint layers.N, 0-based; auto: the screen chooses.")]
Features = Annotated[str | None, Option("--features", help="Number of SAE features (or directions), or auto.")]
Scale = Annotated[str | None, Option("--scale", help="Factor on the patch that the teacher sees, or auto.")]
Screen = Annotated[bool, Option("--screen", help="Show what the screen tries and chooses; train no adapter.")]
Again = Annotated[bool, Option("--again", help="Run a finished recipe once more, as a new version.")]
Resume = Annotated[
    bool, Option("--resume", help="Go on with an interrupted run, or fail; without it, too, a run goes on.")
]

CacheGb = Annotated[
    float | None,
    Option(
        "--cache-gb", help="Memory for the teacher's states, then disk, then made anew; half of what is free.", min=0
    ),
]
DiskGb = Annotated[
    float, Option("--disk-gb", help="Disk for activations that stage I passes over again; none by default.", min=0)
]
Rate = Annotated[float | None, Option("--rate", help="USD an hour of this machine, to tell the price.", min=0)]


def plan(
    source: options.Source = None,
    target: Target = None,
    trigger: Annotated[str | None, Option("--trigger", help="Data of stage I: name, Hub id or file.")] = None,
    elicit: Annotated[str | None, Option("--elicit", help="Data of stage II; the trigger data by default.")] = None,
    layer: Layer = None,
    features: Features = None,
    scale: Scale = None,
    screen: Screen = False,
    method: Annotated[str | None, Option("--method", help=METHODS_HELP)] = None,
    recipe: options.Recipe = None,
    name: Annotated[str | None, Option("--name", help="Name of the adapter; a good one is made.")] = None,
    seed: Annotated[int | None, Option("--seed")] = None,
    settings: options.Settings = None,
) -> dict[str, Any]:
    """What `extraction.plan.plan` is asked."""
    return dict(locals())


def limits(cache_gb: CacheGb = None, disk_gb: DiskGb = 0, rate: Rate = None) -> Any:
    from ..extraction.run import ResourceLimits

    memory = None if cache_gb is None else int(cache_gb * 1e9)
    return ResourceLimits(memory=memory, disk=int(disk_gb * 1e9), rate=rate)


def extract(
    choices: Annotated[dict[str, Any], OptionGroup(plan)],
    again: Again = False,
    resume: Resume = False,
    limits: Annotated[Any, OptionGroup(limits)] = None,
    workspace: options.Workspace = None,
    dry_run: options.DryRun = False,
    out: options.Out = Output(),
) -> None:
    """Make an adapter from a source model."""
    from ..adapter.workspace import Workspace
    from ..core.progress import Progress
    from ..extraction import extract as extraction
    from ..extraction.plan import plan as resolve

    registry = Workspace.find(workspace).registry
    plan = resolve(**choices, registry=registry)
    if dry_run:
        return forecast.show(out, plan, registry, limits.rate)
    for label, value in plan.lines():
        out.hint(f"  {label:<9} {value}")
    run = {"limits": limits, "workspace": workspace, "progress": Progress(quiet=out.silent)}
    if choices["screen"]:
        return screen_trials.show(out, extraction.screen(plan, **run))
    adapter, new = extraction.extract(plan=plan, again=again, resume=resume, **run)
    costs.finished(out, adapter, new)
    if not out.silent:
        out.hint(f"next: resa-hub eval {adapter.manifest.name} --target {plan.recipe.target}")
