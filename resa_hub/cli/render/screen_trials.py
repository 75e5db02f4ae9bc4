"""What the screen of an extraction tried, as a table."""

from typing import Any

from ..output import Output
from ..tables import Column

Rows = list[dict[str, Any]]


def show(out: Output, rows: Rows) -> None:
    """One line a candidate; `KL closed` is the share of the KL between source and target that the patch takes away."""
    if out.data(rows, chosen(rows)):
        return
    table = [
        [r["hookpoint"], r["patch"], f"{r['scale']:g}", f"{100 * r['closed']:.1f}", "<- chosen" if r["chosen"] else ""]
        for r in rows
    ]
    numbers = [Column("scale", right=True), Column("KL closed, %", right=True)]
    out.table([Column("hookpoint", whole=True), "patch", *numbers, Column("", whole=True)], table)


def chosen(rows: Rows) -> str:
    """The essential line: what the screen takes."""
    return ", ".join(f"{r['hookpoint']} {r['patch']} scale {r['scale']:g}" for r in rows if r["chosen"])
