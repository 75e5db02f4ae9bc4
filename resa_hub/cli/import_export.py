"""`import` and `export`: adapters and SAEs from elsewhere, adapters for elsewhere."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from . import complete, options
from .output import Output
from .render import import_export


def import_(
    origin: Annotated[str, Argument(help="./folder, owner/name@revision:subfolder, or a registry name as tina-still.")],
    name: Annotated[str | None, Option("--name", help="Name in the store; made from the origin's otherwise.")] = None,
    base: Annotated[
        str | None,
        Option(
            "--base",
            help="The model it stands on; the registry or its config says so otherwise.",
            autocompletion=complete.models,
        ),
    ] = None,
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
    """Take in a plain PEFT LoRA, or an SAE, that was made elsewhere."""
    from ..inference.import_export import import_adapter

    if sae:
        from ..extraction.import_sae import import_sae

        result = import_sae(origin, name=name, base=base, hookpoint=hookpoint, workspace=workspace)
        return import_export.sae(out, result)
    import_export.adapter(out, *import_adapter(origin, name=name, base=base, workspace=workspace))


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
    from ..inference.import_export import export as verb

    adapter = resolve_adapter(name, Workspace.find(workspace))
    written = verb(adapter, folder, base=base, sae=sae, sae_format=sae_format)
    if not out.data({"adapter": adapter.manifest.reference, "folder": str(written)}, str(written)):
        out.text(f"{adapter.manifest.reference} -> {written}")
