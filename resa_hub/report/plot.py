"""The plot of a model card: the verdict in words and all arms with their intervals, as PNG.

The page's SVG (`charts`) has no common code with it: there every arm is a row of an HTML table that the browser lays
out, stretches to the window and colours for light or dark. A PNG needs its texts measured, placed and drawn, which is
what matplotlib does; shared would be a dot, a line and the ticks.
"""

import io
import warnings
from typing import Any

from ..adapter.results import AnyEvaluation, ArmResult
from .number_words import drawn, minus, short, span

COLOURS = {"base": "#3d4148", "source": "#1f7a5c", "source-model": "#1f7a5c", "adapter": "#6a3fb0", "random": "#75797f"}
OTHER = "#86661a"
MOST_ARMS = 24
"""Rows of the picture; the page has them all."""
NAME = 48
"""Characters of a name."""
WIDTH, DENSITY = 960, 2
"""Pixels of the page that the picture is as wide as, and its own pixels for each of them."""
LEFT = 0.01
"""Of the width: where the titles begin."""
INCH = 120
"""Pixels of the page; texts are measured in points, 72 an inch."""


def draw(d: AnyEvaluation) -> bytes:
    """One row an arm: dot and 95% interval; the dashed line is base. The ground is white in dark mode too."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    arms, picture = d.arms[:MOST_ARMS], io.BytesIO()
    size = (WIDTH / INCH, 1.55 + 0.3 * len(arms))
    figure, axes = pyplot.subplots(figsize=size, dpi=DENSITY * INCH, layout="constrained")
    try:
        for row, arm in enumerate(arms):
            _arm(axes, row, arm)
        base = d.arm("base")
        if base:
            axes.axvline(base.score, color="#3d4148", lw=0.9, ls=(0, (3, 3)), zorder=0)
        axes.set_yticks(range(len(arms)), [_one_line(short(arm.name, d)) for arm in arms], fontsize=8, parse_math=False)
        axes.set_ylim(len(arms) - 0.4, -0.6)
        _frame(axes, d)
        with warnings.catch_warnings():
            # A name may have glyphs that the font has not: boxes are drawn, and nothing is printed.
            warnings.simplefilter("ignore")
            _titles(figure, axes, d)
            figure.savefig(picture, format="png", metadata={"Software": None})
        return picture.getvalue()
    finally:
        pyplot.close(figure)


def _arm(axes: Any, row: int, arm: ArmResult) -> None:
    low, high = arm.score_ci
    errors = [[max(0.0, arm.score - low)], [max(0.0, high - arm.score)]]
    colour = COLOURS.get(arm.role, OTHER)
    axes.errorbar(arm.score, row, xerr=errors, fmt="o", ms=5, capsize=3, lw=1.4, color=colour)
    beside = ("axes fraction", "data")
    axes.annotate(f"{arm.score:.1f}", (1.01, row), xycoords=beside, va="center", fontsize=8, color="#3d4148")


def _frame(axes: Any, d: AnyEvaluation) -> None:
    """Grid and texts of the axis; names are never read as formulas."""
    size = f"{d.problems:,} problems x {d.samples} samples {drawn(d)}"
    axes.set_xlabel(f"right answers, percent, with 95% intervals over {size}", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e6e6e2", lw=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _titles(figure: Any, axes: Any, d: AnyEvaluation) -> None:
    """The verdict and, below it, what was judged, both from the left edge of the picture."""
    figure.suptitle(headline(d), fontsize=11, x=LEFT, ha="left", fontweight="bold", parse_math=False)
    title = f"{_one_line(d.adapter)} on {_one_line(d.target)}, {_one_line(d.benchmark)} ({_one_line(d.split)})"
    told = axes.set_title(title, fontsize=8.5, loc="left", color="#565b64", parse_math=False)
    figure.draw_without_rendering()  # lays out: a title's place is relative to the axes
    place = axes.get_position()
    told.set_x((LEFT - place.x0) / place.width)


def headline(d: AnyEvaluation) -> str:
    """`Transferred: +50.8 points over base [+46.6, +55.0]`."""
    word = _one_line(d.verdict)
    return minus(f"{word[:1].upper()}{word[1:]}: {d.gain:+.1f} points over base {span(d.gain_ci)}")


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= NAME else f"{text[: NAME - 1]}\u2026"
