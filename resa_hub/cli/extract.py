"""`extract`: an adapter from a source model."""

from typing import Annotated, Any

from typer import Option

from ..config.methods import HELP as METHODS_HELP
from . import ask, complete, options
from .options import OptionGroup
from .output import Output
from .render import costs, forecast, screen_trials

Target = Annotated[
    str | None,
    Option(
        "--target", help="Model to train the adapter on; the source's base by default.", autocompletion=complete.models
    ),
]
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

RECIPE_KEYS = ("method", "source", "target", "layer", "features", "scale", "seed")
"""Options that set a key of the recipe."""


def plan(
    source: options.Source = None,
    target: Target = None,
    data: Annotated[str | None, Option("--data", help="Problems of both stages: name, Hub id or ./file.")] = None,
    trigger: Annotated[str | None, Option("--trigger", help="Of stage I alone.")] = None,
    elicit: Annotated[str | None, Option("--elicit", help="Of stage II alone; the trigger data by default.")] = None,
    layer: Layer = None,
    features: Features = None,
    scale: Scale = None,
    screen: Screen = False,
    method: Annotated[str | None, Option("--method", help=METHODS_HELP, autocompletion=complete.methods)] = None,
    recipe: options.Recipe = None,
    name: Annotated[str | None, Option("--name", help="Name of the adapter; a good one is made.")] = None,
    seed: Annotated[int | None, Option("--seed", min=0)] = None,
    settings: options.Settings = None,
) -> dict[str, Any]:
    """What `extraction.plan.plan` is asked."""
    return dict(locals())


def limits(
    cache_gb: CacheGb = None, disk_gb: DiskGb = 0, no_sae: options.NoSae = False, rate: options.Rate = None
) -> Any:
    from ..extraction.run import ResourceLimits

    memory = None if cache_gb is None else int(cache_gb * 1e9)
    return ResourceLimits(memory=memory, disk=int(disk_gb * 1e9), rate=rate, keep_sae=not no_sae)


def extract(
    choices: Annotated[dict[str, Any], OptionGroup(plan)],
    again: Again = False,
    resume: Resume = False,
    limits: Annotated[Any, OptionGroup(limits)] = None,
    yes: options.Yes = False,
    workspace: options.Workspace = None,
    dry_run: options.DryRun = False,
    out: options.Out = Output(),
) -> None:
    """Make an adapter from a source model."""
    from ..adapter.workspace import Workspace
    from ..core.progress import Progress
    from ..evaluation.question import knows_tiny_alone
    from ..extraction import extract as extraction
    from ..extraction.describe import references
    from ..extraction.forecast import forecast as foresee
    from ..extraction.plan import plan as resolve
    from ..extraction.used_settings import check_used

    opened = Workspace.find(workspace)
    plan = resolve(**choices, registry=opened.registry)
    check_used(plan.recipe, [name for name in RECIPE_KEYS if options.given(name)], choices["settings"] or ())
    if not dry_run:
        for label, value in plan.lines():
            out.hint(f"  {label:<9} {value}")
    if choices["screen"]:
        extraction.check_screen(plan)
    told = foresee(plan, opened, limits, again=again, resume=resume)
    if dry_run:
        return forecast.show(out, told, references(plan, opened.registry), again)
    if again or choices["screen"] or not told.present:
        ask.before_long_run(out, told.estimate, yes)
    run = {"limits": limits, "workspace": workspace, "progress": Progress(quiet=out.silent)}
    if choices["screen"]:
        return screen_trials.show(out, extraction.screen(plan, **run))
    adapter, new = extraction.extract(plan=plan, again=again, resume=resume, **run)
    costs.finished(out, adapter, new)
    if not out.silent:
        target = plan.recipe.target
        named = "" if knows_tiny_alone(plan.target, target, opened) else " --benchmark ./YOUR_TEST.jsonl"
        out.hint(f"next: resa-hub eval {adapter.manifest.name} --target {target}{named}")
