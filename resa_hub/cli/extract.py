from typing import Annotated

import typer

from . import options
from .output import Output


def extract(
    source: Annotated[str | None, typer.Option("--source", help="Model to extract from: a registry name or base+adapter.", show_default=False)] = None,
    target: Annotated[str | None, typer.Option("--target", help="Model to train the adapter on; the source's base by default.", show_default=False)] = None,
    trigger: Annotated[str | None, typer.Option("--trigger", help="Data of stage I: name, Hub id or file.", show_default=False)] = None,
    elicit: Annotated[str | None, typer.Option("--elicit", help="Data of stage II; the trigger data by default.", show_default=False)] = None,
    layer: Annotated[int | None, typer.Option("--layer", help="Hookpoint layers.N, 0-based.", min=0, show_default=False)] = None,
    method: Annotated[
        str | None, typer.Option("--method", help="sae-tuning, feature-diff, random-features, pca-diff or logit-distill.", show_default=False)
    ] = None,
    recipe: Annotated[str | None, typer.Option("--recipe", help="Registry name or YAML file.", show_default=False)] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the adapter; a good one is made.", show_default=False)] = None,
    seed: Annotated[int | None, typer.Option("--seed", show_default=False)] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value of the recipe, as training.learning_rate=1e-4.", show_default=False)] = None,
    again: Annotated[bool, typer.Option("--again", help="Run a finished recipe once more, as a new version.")] = False,
    workspace: options.Workspace = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Make an adapter from a source model."""
    from .. import extract as verb
    from ..progress import Progress
    from ..registry import plain
    from ..workspace import Workspace

    out = Output(as_json=as_json, quiet=quiet)
    plan = verb.plan(
        source, target=target, trigger=trigger, elicit=elicit, layer=layer, method=method, recipe=recipe, name=name, seed=seed,
        settings=settings, registry=Workspace.find(workspace).registry,
    )  # fmt: skip
    if dry_run:
        if not out.data({"name": plan.name, "source": str(plan.source), "target": str(plan.target), "recipe": plain(plan.recipe)}, plan.name):
            out.pairs(plan.lines())
            out.hint("dry run: nothing was fetched or made")
        return
    if not (quiet or as_json):
        for label, value in plan.lines():
            out.hint(f"  {label:<9} {value}")
    adapter, new = verb.extract(made=plan, again=again, workspace=workspace, progress=Progress(quiet=quiet))
    m = adapter.manifest
    if out.data({"adapter": m.reference, "content_hash": m.content_hash, "folder": str(adapter.folder), "new": new, "kl": m.probe.kl}, m.reference):
        return
    out.text(f"{m.reference}  {m.content_hash[:19]}  {adapter.folder}")
    if not new:
        out.hint("this recipe was finished before; --again makes another version")
    out.hint(f"next: resa-hub eval {m.name} --target {plan.recipe.target}")
