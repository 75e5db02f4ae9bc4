"""The plan of an evaluation's size as text and as JSON."""

from collections.abc import Sequence
from typing import Any

from ..output import Output


def show(
    out: Output, names: Sequence[str], target: str, settings: Any, detect: float, workspace: Any, force: bool
) -> None:
    import msgspec

    from ...evaluation.sizing import power_analysis

    found = power_analysis(names, target, settings, detect, workspace, force)
    best = found.needed or found.needed_same
    if out.data(msgspec.to_builtins(found), f"{best.problems} x {best.samples}"):
        return
    there = "" if found.available is None else f", {found.available} problems in it"
    out.text(
        f"{found.benchmark}{there}: to show {found.detect:g} points with 80% power at 95%\nspread of answers "
        f"and effects: {found.spread.origin}"
    )
    sizes = [
        ("asked for", found.asked),
        ("on new problems of this kind", found.needed),
        ("on these problems alone", found.needed_same),
    ]
    rows = [
        [label, str(s.problems), str(s.samples), f"{s.detects:.1f}", f"{s.detects_same:.1f}"] for label, s in sizes if s
    ]
    out.table(["size", "problems", "samples", "shows, points, new", "these"], rows)
    if found.needed is None:
        too_few = "No number of samples shows it on new problems: there are too few problems."
        out.text(f"{too_few} It can be shown on these problems only.")
    out.text(f"{found.arms} arms: {found.completions:,} completions, {found.tokens:,} tokens ({found.tokens_are})")
    hours = ", ".join(f"{name} {value:.2g} h" for name, value in found.gpu_hours.items())
    out.text(
        "on one GPU, estimated from its memory bandwidth, within a factor of two: "
        f"{hours or 'none of the known ones has room'}"
    )
