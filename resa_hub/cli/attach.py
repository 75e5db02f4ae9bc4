"""`attach`: an adapter on a model."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from . import complete, options
from .output import Output


def attach(
    target: Annotated[str, Option("--target", help="Model to put the adapter on.", autocompletion=complete.models)],
    name: Annotated[
        str | None,
        Argument(help="NAME or NAME@VERSION; without it the one that fits.", autocompletion=complete.adapters),
    ] = None,
    prompts: Annotated[
        list[str] | None, Option("--prompt", help="Complete this text; may be given more than once.")
    ] = None,
    temperature: Annotated[float, Option("--temperature", min=0.0, max=10.0)] = 0.0,
    new_tokens: Annotated[int, Option("--new-tokens", min=1)] = 256,
    seed: Annotated[int, Option("--seed", min=0)] = 0,
    merge: Annotated[
        Path | None, Option("--merge", help="Write the whole model, adapter included, into this new folder.")
    ] = None,
    force: options.Force = False,
    workspace: options.Workspace = None,
    dry_run: options.DryRun = False,
    out: options.Out = Output(),
) -> None:
    """Put an adapter on a model, prove its effect, and generate."""
    from ..adapter.workspace import Workspace
    from ..hub.resolve import choose_adapter
    from ..inference.attach import attach as verb
    from ..inference.attach import preview
    from .render import attached

    opened = Workspace.find(workspace)
    choice = choose_adapter(name, target, opened.registry)
    plan = [("target", choice.target.named(target)), ("adapter", f"{choice.name or '(any)'}: {choice.why}")]
    generation = {"temperature": temperature, "new_tokens": new_tokens}
    if dry_run:
        plan += [("merge", f"the whole model into {merge}")] if merge else []
        checked = {"prompts": prompts or (), "force": force, "merge": merge}
        seen = preview(name, target=target, workspace=opened, **checked, **generation)
        return attached.planned(out, plan, choice.name or "", seen)
    for label, value in plan:
        out.hint(f"  {label:<8} {value}")
    generation |= {"seed": seed}
    done = verb(name, target=target, prompts=prompts or (), workspace=opened, force=force, merge=merge, **generation)
    attached.show(out, done, target, prompts or ())
