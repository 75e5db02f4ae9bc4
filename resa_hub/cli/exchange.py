"""Adapters from elsewhere and for elsewhere, and made once more: import, export, reproduce."""

from pathlib import Path
from typing import Annotated

from . import options
from .options import Argument, Option
from .output import Output
from .render import exchanged


def import_(
    origin: Annotated[str, Argument(help="./folder, owner/name@revision:subfolder, or a registry name as tina-still.")],
    name: Annotated[str | None, Option("--name", help="Name in the store; made from the origin's otherwise.")] = None,
    base: Annotated[str | None, Option("--base", help="The model it stands on; its config says so otherwise.")] = None,
    sae: Annotated[
        bool,
        Option(
            "--sae", help="It is an SAE, in the format of sparsify or SAELens: kept in saes/, named in registry.yaml."
        ),
    ] = False,
    hookpoint: Annotated[
        str | None,
        Option("--hookpoint", help="With --sae: layers.N or layers.N.mlp; its metadata or folder says so otherwise."),
    ] = None,
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """Take a plain PEFT LoRA, or an SAE, that was made elsewhere into the workspace."""
    from ..core.errors import Usage
    from ..inference.exchange import import_adapter

    if sae:
        from ..extraction.import_sae import import_sae

        result = import_sae(origin, name=name, base=base, hookpoint=hookpoint, workspace=workspace)
        return exchanged.sae(out, result)
    if hookpoint:
        raise Usage("an adapter has no hookpoint to choose", "add --sae to import an SAE")
    exchanged.adapter(out, *import_adapter(origin, name=name, base=base, workspace=workspace))


def export(
    name: options.Adapter,
    folder: Annotated[Path, Argument(help="A new folder.")],
    base: Annotated[
        str | None,
        Option("--base", help="What base_model_name_or_path shall say: the name that the server knows its base by."),
    ] = None,
    sae: Annotated[bool, Option("--sae", help="With its SAE.")] = False,
    sae_format: Annotated[str, Option("--sae-format", help="saelens or sparsify.")] = "saelens",
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """A plain PEFT folder for serving stacks."""
    from ..adapter.workspace import Workspace
    from ..hub.resolve import resolve_adapter
    from ..inference.exchange import export as verb

    adapter = resolve_adapter(name, Workspace.find(workspace))
    written = verb(adapter, folder, base=base, sae=sae, sae_format=sae_format)
    if not out.data({"adapter": adapter.manifest.reference, "folder": str(written)}, str(written)):
        out.text(f"{adapter.manifest.reference} -> {written}")


def reproduce(
    name: options.Adapter,
    judge: Annotated[bool, Option("--judge", help="Also evaluate the new one wherever the old one was.")] = False,
    keep: Annotated[bool, Option("--keep", help="Keep the workspace in which it was made again.")] = False,
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> int:
    """Run an adapter's recipe again: the same bytes, or what differs and how far."""
    from ..core.progress import Progress
    from ..extraction.reproduce import reproduce as verb

    result = verb(name, workspace=workspace, judge=judge, keep=keep, progress=Progress(quiet=out.silent))
    exchanged.reproduced(out, result)
    return 0 if result.same else 1
