"""What came from elsewhere, and an adapter that was made once more."""

from typing import TYPE_CHECKING, Any

from ..output import Output
from ..tables import Column
from .words import VERDICTS

if TYPE_CHECKING:
    from ...adapter.store import Adapter
    from ...extraction.reproduce import Reproduced


def adapter(out: Output, adapter: "Adapter", missing: str) -> None:
    """missing: why its effect is not known; empty where it was measured."""
    manifest = adapter.manifest
    document = {
        "adapter": manifest.reference,
        "content_hash": manifest.content_hash,
        "folder": str(adapter.folder),
        "base": manifest.base.id,
        "unknown": missing,
    }
    if out.data(document, manifest.reference):
        return
    kl = manifest.probe.kl if manifest.probe else 0
    effect = f"effect KL {kl:.4g} nats a token on {len(manifest.probe_texts)} texts"
    out.text(f"{manifest.reference}  {manifest.content_hash[:19]}  {adapter.folder}")
    out.hint(missing or f"  base     {manifest.base.id}; {effect}")
    out.hint("how it was made is not recorded: evaluate it before you rely on it")


def sae(out: Output, taken: Any) -> None:
    """taken: `extraction.import_sae.Taken`."""
    if out.data(taken._asdict() | {"folder": str(taken.folder)}, taken.name):
        return
    size = f"{taken.latents:,} latents, k {taken.k}"
    here = "" if taken.new else "  (was here already)"
    out.text(f"{taken.name}  {taken.hookpoint}  {size}  {taken.folder}{here}")
    out.hint(taken.missing or f"  base     {taken.base}; width and finite weights checked")
    settings = f"--set sae.mode=finetuned --set sae.origin={taken.name} --set hookpoint={taken.hookpoint}"
    out.hint(f"use it: resa-hub extract ... {settings}")


def reproduced(out: Output, result: "Reproduced") -> None:
    import msgspec

    if out.data(msgspec.to_builtins(result), "same" if result.same else "different"):
        return
    out.text(result.sentence)
    if not result.same:
        out.pairs(_differences(result))
    if result.verdicts:
        out.text("")
        rows = [[str(value) for value in row.values()] for row in result.verdicts]
        out.table(["target", "benchmark", "split", *(Column(run, words=VERDICTS) for run in ("first", "second"))], rows)


def _differences(result: "Reproduced") -> list[tuple[str, str]]:
    norm = "-" if result.relative_norm is None else f"{result.relative_norm:.4f}"
    effects = " then, ".join("-" if kl is None else f"KL {kl:.4g}" for kl in result.kl)
    causes = result.causes or ["nothing that the manifests record: the arithmetic itself"]
    return [
        ("content hash", f"{result.content_hash[:23]} then, {result.again[:23]} now"),
        ("norm", f"{norm} of the first one's"),
        ("effect", f"{effects} now"),
        *(("cause", cause) for cause in causes),
    ]
