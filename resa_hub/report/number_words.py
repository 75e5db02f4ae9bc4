"""Numbers and names as a reader sees them, alike in the page, the Markdown and the plot."""

import re
from typing import Any

from ..adapter.results import AnyEvaluation, Bounds


def short(name: str, d: AnyEvaluation) -> str:
    """`random-1` for `adapter@0.1.0 random-1`; base carries the model's name."""
    if name == "base":
        return f"base: {d.target}"
    return name.removeprefix(f"{d.adapter} ")


def drawn(d: AnyEvaluation) -> str:
    """How the samples came about."""
    if d.temperature is not None:
        return f"at T={d.temperature:g}"
    return f"drawn and graded by {d.harness or 'another tool'}"


def minus(text: str) -> str:
    """A true minus before numbers."""
    return re.sub(r"(?<![\w.\-])-(?=\d)", "\u2212", text)


def points(value: float) -> str:
    """Signed, one digit: `+50.8`."""
    return minus(f"{round(value, 1) + 0.0:+.1f}")


def span(pair: Bounds) -> str:
    """A signed interval: `[-1.0, +2.0]`."""
    return f"[{points(pair[0])}, {points(pair[1])}]"


def retained(d: AnyEvaluation) -> str:
    """The share of the source's gain that the adapter retains: `97%`; `-` where it is not identifiable."""
    return "-" if d.retained is None else minus(f"{100 * d.retained:.0f}%")


def plainly(value: Any) -> str:
    """A setting of any type."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return minus(f"{value:,.6g}")
    if isinstance(value, int) and abs(value) >= 10_000:
        return f"{value:,}"
    return str(value) if value != "" else "none"


def pvalue(value: float) -> str:
    """Four digits below 0.1, two above; never 0."""
    if value < 1e-4:
        return "< 0.0001"
    return f"{value:.4f}" if value < 0.1 else f"{value:.2f}"


def number(value: float | None, digits: int = 1) -> str:
    """With commas; `-` for None."""
    return "-" if value is None else f"{value:,.{digits}f}"


def interval(pair: Bounds | None) -> str:
    """Unsigned; `-` for None."""
    return f"[{pair[0]:.1f}, {pair[1]:.1f}]" if pair else "-"
