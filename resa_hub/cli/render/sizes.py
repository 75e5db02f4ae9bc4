"""The plan of an evaluation's size as text and as JSON."""

from typing import TYPE_CHECKING

from ..output import Output
from ..tables import Column
from . import estimated

if TYPE_CHECKING:
    from ...evaluation.power_analysis import PowerAnalysis


def show(out: Output, found: "PowerAnalysis") -> None:
    import msgspec

    best = found.needed or found.needed_same
    if out.data(msgspec.to_builtins(found), f"{best.problems} x {best.samples}"):
        return
    there = "" if found.available is None else f", {found.available} problems in it"
    out.text(f"{found.benchmark}{there}: to show {found.detect:g} points with 80% power at 95%")
    out.text(f"spread of answers and effects: {found.spread.origin}")
    sizes = [
        ("asked for", found.asked),
        ("on new problems of this kind", found.needed),
        ("on these problems alone", found.needed_same),
    ]
    rows = [
        [label, str(s.problems), str(s.samples), f"{s.detects:.1f}", f"{s.detects_same:.1f}"] for label, s in sizes if s
    ]
    headings = ("problems", "samples", "shows on new problems, points", "on these, points")
    out.table(["size", *(Column(heading, right=True) for heading in headings)], rows)
    if found.needed is None:
        too_few = "No number of samples shows it on new problems: there are too few problems."
        out.text(f"{too_few} It can be shown on these problems only.")
    out.text(f"{found.arms} arms: {found.completions:,} completions, {found.tokens:,} tokens ({found.tokens_are})")
    out.text("")
    estimated.show(out, found.estimate, found.left)
