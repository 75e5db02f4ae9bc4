"""What an extraction made and took, in words."""

from typing import TYPE_CHECKING

from ...core.quantities import amount, dollars, duration, size
from ..output import Output

if TYPE_CHECKING:
    from ...adapter.manifest import Cost, Run
    from ...adapter.store import Adapter
ORDER = ("rollouts", "screen", "sae", "selection", "adapter", "total")


def finished(out: Output, adapter: "Adapter", new: bool) -> None:
    """The adapter that `extract` made, or had made before."""
    from msgspec import to_builtins

    manifest = adapter.manifest
    document = {
        "adapter": manifest.reference,
        "content_hash": manifest.content_hash,
        "folder": str(adapter.folder),
        "new": new,
        "kl": manifest.probe.kl if manifest.probe else None,
        "costs": to_builtins(manifest.run.costs),
        "usd": manifest.run.usd,
        "source_usd": manifest.run.source_usd,
    }
    if out.data(document, manifest.reference):
        return
    out.text(f"{manifest.reference}  {manifest.content_hash[:19]}  {adapter.folder}")
    if not new:
        out.hint("this recipe was finished before; --again makes another version")
        return
    for line in lines(manifest.run):
        out.hint(f"  {line}")


def lines(run: "Run") -> list[str]:
    """One line a stage, then the price beside that of the source."""
    names = sorted(run.costs, key=lambda name: ORDER.index(name) if name in ORDER else 0)
    return [f"{name:<9} {stage(run.costs[name])}" for name in names] + price(run)


def stage(cost: "Cost") -> str:
    parts = [duration(cost.seconds)]
    if cost.tokens:
        parts += [f"{cost.tokens:,} tokens", f"about {amount(cost.operations, 'FLOP')}"]
    parts.append(f"{size(cost.memory)} of memory")
    if cost.gpu_memory:
        parts.append(f"{size(cost.gpu_memory)} on the GPU")
    if cost.joules is not None:
        parts.append(amount(cost.joules, "J"))
    return ", ".join(parts)


def price(run: "Run") -> list[str]:
    """The source's training is named wherever it is known: the transfer does not come without it."""
    ours = None if run.usd is None else f"this extraction {dollars(run.usd)}"
    note = f" ({run.source_note})" if run.source_note else ""
    source = f"training its source is not in it{note}" if run.source_note and run.source_usd is None else None
    if run.source_usd is not None:
        source = f"its source cost {dollars(run.source_usd)} to train{note}"
    said = "; ".join(part for part in (ours, source) if part)
    return [f"{'price':<9} {said}"] if said else []
