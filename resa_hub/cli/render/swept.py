"""A sweep over layers: one line an adapter, and whether layers differ at all."""

from collections.abc import Sequence
from typing import Any

from ..output import Output

COLUMNS = ("layer", "seed", "adapter", "gain, points", "95%", "controls", "verdict")


def planned(out: Output, plans: Sequence[Any], seeds: int) -> None:
    """plans: `extraction.plan.Plan`, one a layer."""
    if not out.data({"adapters": [plan.name for plan in plans], "seeds": seeds}, str(len(plans) * seeds)):
        out.table(["layer", "adapter", "seeds"], [[plan.recipe.hookpoint, plan.name, str(seeds)] for plan in plans])


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
