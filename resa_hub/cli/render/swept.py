"""A sweep over layers: one line an adapter, and whether layers differ at all."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...config.methods import METHODS
from ...core.quantities import count
from ..output import Output
from ..tables import Column
from . import estimated
from .words import VERDICTS

if TYPE_CHECKING:
    from ...extraction.sweep_plan import SweepForecast

PLANNED = (Column("layer"), Column("adapter", least=24), Column("seeds", least=8))

COLUMNS = (
    Column("layer", right=True),
    Column("seed", right=True),
    Column("adapter", least=30, hide=1),
    Column("gain, points", right=True),
    Column("95%", right=True),
    Column("controls", least=11),
    Column("verdict", least=15, words=VERDICTS),
)


def planned(out: Output, plans: Mapping[Any, Any], told: "SweepForecast", saes: bool) -> None:
    """plans: (layer, seed) -> `extraction.plan.Plan`. saes: whether they are kept."""
    layers: dict[str, list[str]] = {}
    for plan in plans.values():
        layers.setdefault(plan.recipe.hookpoint, [plan.name]).append(str(plan.recipe.seed))
    seeds = len(plans) // max(1, len(layers))
    names = [name for name, *_ in layers.values()]
    document = {"adapters": names, "seeds": seeds, "present": told.made}
    if out.data(document | estimated.document(told.estimate, told.left), str(len(plans))):
        return
    out.table(PLANNED, [[layer, name, ", ".join(seeds)] for layer, (name, *seeds) in layers.items()])
    there = f"; made before: {', '.join(told.made)}" if told.made else ""
    out.text(f"{count(len(plans), 'adapter')}, each judged beside base, source and its controls{there}")
    if any(METHODS[plan.recipe.method].sae for plan in plans.values()):
        out.text("the SAEs are kept" if saes else "the SAEs are not kept: --sae keeps them")
    out.text("")
    estimated.show(out, told.estimate, told.left, stages=True)
    out.hint("dry run: nothing was fetched or made")


def show(out: Output, found: Any) -> None:
    """found: `extraction.sweep.Sweep`."""
    import msgspec

    if out.data(msgspec.to_builtins(found), found.sentence):
        return
    out.table(COLUMNS, [_row(point) for point in found.places])
    out.text(found.sentence)
    out.hint(f"curve: {found.plot}")


def _row(point: Any) -> list[str]:
    low, high = point.gain_ci
    controls = " ".join(f"{control:+.1f}" for control in point.controls)
    gain, interval = f"{point.gain:+.1f}", f"[{low:+.1f}, {high:+.1f}]"
    return [str(point.layer), str(point.seed), point.adapter, gain, interval, controls, point.verdict]
