"""The plan of an extraction and its estimate, as text and as JSON."""

from typing import TYPE_CHECKING, Any

from ..output import Output

if TYPE_CHECKING:
    from ...config.registry import Registry
    from ...extraction.estimate import Estimate
    from ...extraction.plan import Plan


def show(out: Output, plan: "Plan", registry: "Registry", rate: float | None) -> None:
    import msgspec

    from ...extraction.describe import references
    from ...extraction.estimate import estimate

    found, refs = estimate(plan, registry, rate), references(plan, registry)
    document: dict[str, Any] = {
        "name": plan.name,
        "source": str(plan.source),
        "target": str(plan.target),
        "recipe": msgspec.to_builtins(plan.recipe),
    }
    document["references"] = msgspec.to_builtins(refs)
    document["estimate"] = (
        None
        if isinstance(found, str)
        else msgspec.to_builtins(found) | {"operations": found.operations, "bytes": found.bytes}
    )
    if isinstance(found, str):
        document["no_estimate"] = found
    if out.data(document, plan.name):
        return
    out.pairs(plan.lines())
    out.text("")
    out.table(["reference", "name", "is", "revision"], [[r.role, r.name, r.id, r.state] for r in refs])
    out.text("")
    if isinstance(found, str):
        out.text(f"no estimate: {found}")
    else:
        _tell(out, found)
    out.hint("dry run: nothing was fetched or made")


def _tell(out: Output, found: "Estimate") -> None:
    from .costs import dollars, short

    for role, data in found.data.items():
        out.text(f"{role}: {data.tokens:,} tokens in {data.batches:,} batches ({data.basis})")
    out.text("")
    rows = [[s.name, f"{s.steps:,}", f"{s.tokens:,}", f"{short(s.operations)}FLOP"] for s in found.stages]
    out.table(["stage", "steps", "tokens", "about"], [*rows, ["total", "", "", f"{short(found.operations)}FLOP"]])
    out.text("")
    parts = ", ".join(f"{name} {short(size)}B" for name, size in found.memory.items())
    out.text(f"memory: about {short(found.bytes)}B: {parts}")
    if found.caches:
        kept = ", ".join(f"{name} {short(size)}B" for name, size in found.caches.items())
        out.text(f"caches: {kept}: in main memory up to --cache-gb, then on disk, then made anew at each use")
    out.text("")
    offers = [
        [
            o.machine,
            _time(o.hours),
            "-" if o.usd is None else f"${dollars(o.usd)}",
            {True: "yes", False: "NO", None: "?"}[o.fits],
            o.priced,
        ]
        for o in found.offers
    ]
    out.table(["machine (estimates)", "time", "price", "fits", "at"], offers)
    for note in found.notes:
        out.text(f"- {note}")


def _time(hours: float) -> str:
    seconds = hours * 3600
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if hours < 2
        else f"{hours:.1f} h"
        if hours < 48
        else f"{hours / 24:,.0f} days"
    )
