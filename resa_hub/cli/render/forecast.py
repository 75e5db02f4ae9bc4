"""The plan of an extraction and its estimate, as text and as JSON."""

from typing import TYPE_CHECKING, Any

from ..output import Output

if TYPE_CHECKING:
    from ...config.registry import Registry
    from ...extraction.estimate import Estimate
    from ...extraction.plan import Plan

FITS = {True: "yes", False: "NO", None: "?"}
TIMES = ((120, 1, "s"), (7_200, 60, "min"), (172_800, 3_600, "h"))
"""(below so many seconds, seconds of the unit, the unit)."""


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
        "references": msgspec.to_builtins(refs),
    }
    if isinstance(found, str):
        document |= {"estimate": None, "no_estimate": found}
    else:
        totals = {"operations": found.operations, "bytes": found.bytes}
        document["estimate"] = msgspec.to_builtins(found) | totals
    if out.data(document, plan.name):
        return
    out.pairs(plan.lines())
    out.text("")
    out.table(["reference", "name", "is", "revision"], [[r.role, r.name, r.id, r.state] for r in refs])
    out.text("")
    if isinstance(found, str):
        out.text(f"no estimate: {found}")
    else:
        _costs(out, found)
        _machines(out, found)
    out.hint("dry run: nothing was fetched or made")


def _costs(out: Output, found: "Estimate") -> None:
    """Data, stages, memory."""
    from .costs import short

    for role, data in found.data.items():
        out.text(f"{role}: {data.tokens:,} tokens in {data.batches:,} batches ({data.basis})")
    out.text("")
    rows = [[s.name, f"{s.steps:,}", f"{s.tokens:,}", f"{short(s.operations)}FLOP"] for s in found.stages]
    out.table(["stage", "steps", "tokens", "about"], [*rows, ["total", "", "", f"{short(found.operations)}FLOP"]])
    out.text("")
    parts = ", ".join(f"{name} {short(size)}B" for name, size in found.memory.items())
    out.text(f"memory: about {short(found.bytes)}B: {parts}")
    if found.caches:
        caches = ", ".join(f"{name} {short(size)}B" for name, size in found.caches.items())
        out.text(f"caches: {caches}: in main memory up to --cache-gb, then on disk, then made anew at each use")
    out.text("")


def _machines(out: Output, found: "Estimate") -> None:
    """Time and price on named GPUs and here."""
    from .costs import dollars

    rows = []
    for machine in found.offers:
        price = "-" if machine.usd is None else f"${dollars(machine.usd)}"
        rows.append([machine.machine, _time(machine.hours), price, FITS[machine.fits], machine.priced])
    out.table(["machine (estimates)", "time", "price", "fits", "at"], rows)
    for note in found.notes:
        out.text(f"- {note}")


def _time(hours: float) -> str:
    for limit, seconds, unit in TIMES:
        if hours * 3600 < limit:
            return f"{hours * 3600 / seconds:.{1 if unit == 'h' else 0}f} {unit}"
    return f"{hours / 24:,.0f} days"
