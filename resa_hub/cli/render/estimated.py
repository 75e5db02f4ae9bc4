"""What a run will take: the same words for extractions, evaluations, matrices and sweeps."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...core.quantities import amount, dollars, duration, size
from ..output import Output
from ..tables import Column
from .words import STATES

if TYPE_CHECKING:
    from ...core.estimates import Estimate

FITS = {True: "yes", False: "no", None: "?"}
STAGES = (Column("stage"), *(Column(name, right=True) for name in ("steps", "tokens", "operations")))
MACHINES = (
    Column("machine (estimates)", least=20),
    Column("time", right=True),
    Column("price", right=True),
    Column("fits", whole=True, words=STATES),
    Column("at", least=24, hide=1),
)


def document(found: "Estimate | str | None", left: Sequence[str]) -> dict[str, Any]:
    """The fields that every plan has in JSON."""
    import msgspec

    if found is None or isinstance(found, str):
        return {"estimate": None, "no_estimate": found or "", "checked_when_fetched": list(left)}
    totals = {"operations": found.operations, "bytes": found.bytes}
    return {"estimate": msgspec.to_builtins(found) | totals, "checked_when_fetched": list(left)}


def show(out: Output, found: "Estimate | str | None", left: Sequence[str], *, stages: bool = False) -> None:
    """left: what is checked when it is fetched. stages: show them, and the caches."""
    if found is None or isinstance(found, str):
        out.text(f"no estimate: {found or 'the sizes of the model are not known'}")
    else:
        if stages:
            _stages(out, found)
        parts = ", ".join(f"{name} {size(needed)}" for name, needed in found.memory.items())
        out.text(f"memory: about {size(found.bytes)}: {parts}")
        if found.caches:
            caches = ", ".join(f"{name} {size(needed)}" for name, needed in found.caches.items())
            out.text(f"caches: {caches}: in main memory up to --cache-gb, then on disk, then made anew at each use")
        out.text(f"downloads: {_downloads(found)}")
        out.text("")
        _machines(out, found)
    if left:
        out.text(f"checked when fetched: {'; '.join(left)}")


def _stages(out: Output, found: "Estimate") -> None:
    for role, data in found.data.items():
        out.text(f"{role}: {data.tokens:,} tokens in {data.batches:,} batches ({data.basis})")
    out.text("")
    rows = [[s.name, f"{s.steps:,}", f"{s.tokens:,}", amount(s.operations, "FLOP")] for s in found.stages]
    out.table(STAGES, [*rows, ["total", "", "", amount(found.operations, "FLOP")]])
    out.text("")


def _downloads(found: "Estimate") -> str:
    """`about 4.4 GB: owner/name 3.6 GB, ...; of unknown size: ...`."""
    known = [(each.id, each.bytes) for each in found.downloads if each.bytes is not None]
    unknown = [each.id for each in found.downloads if each.bytes is None]
    parts = []
    if known:
        each = ", ".join(f"{name} {size(needed)}" for name, needed in known)
        parts.append(f"about {size(sum(needed for _, needed in known))}: {each}")
    if unknown:
        parts.append(f"size not known: {', '.join(unknown)}")
    return "; ".join(parts) or "nothing to download"


def _machines(out: Output, found: "Estimate") -> None:
    """Time and price on named GPUs and here."""
    rows = []
    for machine in found.offers:
        price = "-" if machine.usd is None else dollars(machine.usd)
        time = "-" if machine.hours is None else duration(machine.hours * 3600)
        rows.append([machine.machine, time, price, FITS[machine.fits], machine.priced])
    out.table(MACHINES, rows)
    for note in found.notes:
        out.text(f"- {note}")
