"""Adapters from elsewhere and for elsewhere, and made once more: import, export, reproduce."""

from pathlib import Path
from typing import Annotated

from . import options
from .options import Argument, Option
from .output import Output


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
        return _import_sae(out, origin, name, base, hookpoint, workspace)
    if hookpoint:
        raise Usage("an adapter has no hookpoint to choose", "add --sae to import an SAE")
    adapter, missing = import_adapter(origin, name=name, base=base, workspace=workspace)
    m = adapter.manifest
    told = {
        "adapter": m.reference,
        "content_hash": m.content_hash,
        "folder": str(adapter.folder),
        "base": m.base.id,
        "unknown": missing,
    }
    if out.data(told, m.reference):
        return
    out.text(f"{m.reference}  {m.content_hash[:19]}  {adapter.folder}")
    out.hint(
        missing
        or (
            f"  base     {m.base.id}; effect KL {m.probe.kl if m.probe else 0:.4g} nats a token on "
            f"{len(m.probe_texts)} texts"
        )
    )
    out.hint("how it was made is not recorded: evaluate it before you rely on it")


def _import_sae(
    out: Output, origin: str, name: str | None, base: str | None, hookpoint: str | None, workspace: Path | None
) -> None:
    from ..extraction.import_sae import import_sae

    taken = import_sae(origin, name=name, base=base, hookpoint=hookpoint, workspace=workspace)
    if out.data(taken._asdict() | {"folder": str(taken.folder)}, taken.name):
        return
    out.text(
        f"{taken.name}  {taken.hookpoint}  {taken.latents:,} latents, k {taken.k}  {taken.folder}"
        + ("" if taken.new else "  (was here already)")
    )
    out.hint(taken.missing or f"  base     {taken.base}; width and finite weights checked")
    out.hint(
        f"use it: resa-hub extract ... --set sae.mode=finetuned --set sae.origin={taken.name} --set "
        f"hookpoint={taken.hookpoint}"
    )


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
    from ..hub.resolve import find
    from ..inference.exchange import export as verb

    adapter = find(name, Workspace.find(workspace))
    made = verb(adapter, folder, base=base, sae=sae, sae_format=sae_format)
    if not out.data({"adapter": adapter.manifest.reference, "folder": str(made)}, str(made)):
        out.text(f"{adapter.manifest.reference} -> {made}")


def reproduce(
    name: options.Adapter,
    judge: Annotated[bool, Option("--judge", help="Also evaluate the new one wherever the old one was.")] = False,
    keep: Annotated[bool, Option("--keep", help="Keep the workspace in which it was made again.")] = False,
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> int:
    """Run an adapter's recipe again: the same bytes, or what differs and how far."""
    import msgspec

    from ..core.progress import Progress
    from ..extraction.reproduce import reproduce as verb

    found = verb(name, workspace=workspace, judge=judge, keep=keep, progress=Progress(quiet=out.silent))
    code = 0 if found.same else 1
    if out.data(msgspec.to_builtins(found), "same" if found.same else "different"):
        return code
    out.text(found.sentence)
    if not found.same:
        norm = "-" if found.relative_norm is None else f"{found.relative_norm:.4f}"
        pairs = [
            ("content hash", f"{found.content_hash[:23]} then, {found.again[:23]} now"),
            ("norm", f"{norm} of the first one's"),
        ]
        pairs.append(("effect", " then, ".join("-" if kl is None else f"KL {kl:.4g}" for kl in found.kl) + " now"))
        out.pairs(
            pairs
            + [
                ("cause", cause)
                for cause in found.causes or ["nothing that the manifests record: the arithmetic itself"]
            ]
        )
    if found.verdicts:
        out.table(
            ["target", "benchmark", "split", "first", "second"],
            [[str(value) for value in row.values()] for row in found.verdicts],
        )
    return code
