from typing import Annotated

from . import options
from .options import Option
from .output import Output
from .render import costs, forecast, screened


def extract(
    source: options.Source = None,
    target: Annotated[
        str | None, Option("--target", help="Model to train the adapter on; the source's base by default.")
    ] = None,
    trigger: Annotated[str | None, Option("--trigger", help="Data of stage I: name, Hub id or file.")] = None,
    elicit: Annotated[str | None, Option("--elicit", help="Data of stage II; the trigger data by default.")] = None,
    layer: Annotated[
        str | None, Option("--layer", help="Hookpoint layers.N, 0-based; auto: the screen chooses.")
    ] = None,
    features: Annotated[
        str | None, Option("--features", help="Number of SAE features (or directions), or auto.")
    ] = None,
    scale: Annotated[str | None, Option("--scale", help="Factor on the patch that the teacher sees, or auto.")] = None,
    screen: Annotated[
        bool, Option("--screen", help="Show what the screen tries and chooses; train no adapter.")
    ] = False,
    method: Annotated[
        str | None, Option("--method", help="sae-tuning, feature-diff, pca-diff, logit-distill, sft, or a control.")
    ] = None,
    recipe: options.Recipe = None,
    name: Annotated[str | None, Option("--name", help="Name of the adapter; a good one is made.")] = None,
    seed: Annotated[int | None, Option("--seed")] = None,
    settings: options.Settings = None,
    again: Annotated[bool, Option("--again", help="Run a finished recipe once more, as a new version.")] = False,
    resume: Annotated[
        bool, Option("--resume", help="Go on with an interrupted run, or fail; without it, too, a run goes on.")
    ] = False,
    cache_gb: Annotated[
        float | None,
        Option(
            "--cache-gb",
            help="Memory for the teacher's states, then disk, then made anew; half of what is free.",
            min=0,
        ),
    ] = None,
    disk_gb: Annotated[
        float, Option("--disk-gb", help="Disk for activations that stage I passes over again; none by default.", min=0)
    ] = 0,
    rate: Annotated[
        float | None, Option("--rate", help="USD an hour of this machine, to tell the price.", min=0)
    ] = None,
    workspace: options.Workspace = None,
    dry_run: options.DryRun = False,
    out: options.Out = Output(),
) -> None:
    """Make an adapter from a source model."""
    from ..adapter.workspace import Workspace
    from ..config.registry import plain
    from ..core.progress import Progress
    from ..extraction.extract import ResourceLimits
    from ..extraction.extract import extract as verb
    from ..extraction.extract import screen as screening
    from ..extraction.plan import plan as resolve

    registry = Workspace.find(workspace).registry
    plan = resolve(
        source,
        target=target,
        trigger=trigger,
        elicit=elicit,
        layer=layer,
        features=features,
        scale=scale,
        screen=screen,
        method=method,
        recipe=recipe,
        name=name,
        seed=seed,
        settings=settings,
        registry=registry,
    )
    if dry_run:
        forecast.show(out, plan, registry, rate)
        return
    if not out.silent:
        for label, value in plan.lines():
            out.hint(f"  {label:<9} {value}")
    means = ResourceLimits(memory=None if cache_gb is None else int(cache_gb * 1e9), disk=int(disk_gb * 1e9), rate=rate)
    if screen:
        rows = screening(plan, means=means, workspace=workspace, progress=Progress(quiet=out.silent))
        if not out.data(rows, screened.chosen(rows)):
            screened.show(out, rows)
        return
    adapter, new = verb(
        made=plan, again=again, resume=resume, means=means, workspace=workspace, progress=Progress(quiet=out.silent)
    )
    m = adapter.manifest
    told = {
        "adapter": m.reference,
        "content_hash": m.content_hash,
        "folder": str(adapter.folder),
        "new": new,
        "kl": m.probe.kl if m.probe else None,
    }
    if out.data(told | {"costs": plain(m.run.costs), "usd": m.run.usd, "source_usd": m.run.source_usd}, m.reference):
        return
    out.text(f"{m.reference}  {m.content_hash[:19]}  {adapter.folder}")
    if not new:
        out.hint("this recipe was finished before; --again makes another version")
    for line in costs.lines(m.run) if new else []:
        out.hint(f"  {line}")
    out.hint(f"next: resa-hub eval {m.name} --target {plan.recipe.target}")
