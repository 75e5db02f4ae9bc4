"""Inline SVG without fixed width: x in percent, y in pixels, colours by class. A chart is drawn row by row, so that its
labels are text of the page.
"""

import itertools
import math
import xml.etree.ElementTree as tree
from collections.abc import Sequence
from typing import NamedTuple

from ..adapter.results import ArmResult, Comparison, Contrast, Sweep, SweepPoint
from .report_data import ArmStatistics, PublishedScore

ROW = 30
"""Height of a row, pixels."""
EDGE = 2.5
"""Percent of the width that stays free on either side."""
STEPS = tuple(factor * 10**exponent for exponent in range(-4, 8) for factor in (1, 2, 5))
"""Distances that ticks may have, ascending."""


class Scale(NamedTuple):
    """From values to percent of the width."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return EDGE + share * (100 - 2 * EDGE)

    def x(self, value: float) -> str:
        return f"{self.at(value):.2f}%"

    def width(self, low: float, high: float) -> str:
        return f"{self.at(high) - self.at(low):.2f}%"


def scale(values: Sequence[float], floor: float = -math.inf, ceiling: float = math.inf, count: int = 5) -> Scale:
    """Round ticks around all values, inside floor and ceiling."""
    low, high = max(min(values), floor), min(max(values), ceiling)
    if high - low < 1e-9:
        low, high = low - 1, high + 1
    step = next(s for s in STEPS if (high - low) / s <= count)
    # 1e-9: a value that is a tick but for rounding needs no further tick.
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    rounded = [round(n * step, 6) for n in range(first, last + 1)]
    ticks = tuple(tick for tick in rounded if floor <= tick <= ceiling)
    if len(ticks) > 1:
        low, high = ticks[0], ticks[-1]
    return Scale(max(low, floor), min(high, ceiling), ticks)


def _svg(height: int, label: str, kind: str = "plot") -> tree.Element:
    """label: what a screen reader says; without one the picture is hidden from it."""
    svg = tree.Element("svg", {"class": kind, "width": "100%", "height": str(height)})
    described = {"role": "img", "aria-label": label} if label else {"aria-hidden": "true"}
    svg.attrib.update(described)
    return svg


def _add(parent: tree.Element, tag: str, kind: str, **attributes: object) -> tree.Element:
    named = {name.replace("_", "-"): str(value) for name, value in attributes.items()}
    return tree.SubElement(parent, tag, {"class": kind, **named})


def _line(svg: tree.Element, kind: str, x1: object, y1: object, x2: object, y2: object) -> None:
    _add(svg, "line", kind, x1=x1, y1=y1, x2=x2, y2=y2)


def _rect(svg: tree.Element, kind: str, x: str, y: object, width: str, height: object) -> None:
    _add(svg, "rect", kind, x=x, y=y, width=width, height=height)


def _text(svg: tree.Element) -> str:
    return tree.tostring(svg, encoding="unicode")


def _grid(svg: tree.Element, scale: Scale, height: int) -> None:
    for tick in scale.ticks:
        _line(svg, "zero" if tick == 0 else "grid", scale.x(tick), 0, scale.x(tick), height)


def axis(scale: Scale, signed: bool = False) -> str:
    """The tick labels below the rows."""
    svg = _svg(20, "", "plot axis")
    for tick in scale.ticks:
        label = _add(svg, "text", "tick", x=scale.x(tick), y=14, text_anchor="middle")
        label.text = _tick(tick, signed)
    return _text(svg)


def _tick(value: float, signed: bool) -> str:
    return f"{value:{'+' if signed and value else ''}g}".replace("-", "\u2212")


def arms_scale(arms: Sequence[ArmResult], published: Sequence[PublishedScore]) -> Scale:
    ends = [end for arm in arms for end in arm.score_ci]
    ends += [end for p in published for end in (p.score_ci or (p.score, p.score))]
    return scale(ends, 0, 100)


def arm_row(scale: Scale, arm: ArmResult | PublishedScore, role: str, base: float | None) -> str:
    """A dot with its 95% interval; the dashed line is base. `role` is one that the style knows."""
    label = f"{arm.score:.1f} percent"
    low, high = arm.score_ci or (arm.score, arm.score)
    if arm.score_ci:
        label += f", 95% interval {low:.1f} to {high:.1f}"
    svg = _svg(ROW, label)
    _grid(svg, scale, ROW)
    if base is not None:
        _line(svg, "reference", scale.x(base), 0, scale.x(base), ROW)
    _interval(svg, scale, low, arm.score, high, f"role-{role}", hollow=isinstance(arm, PublishedScore))
    return _text(svg)


def _interval(
    svg: tree.Element, scale: Scale, low: float, value: float, high: float, kind: str, hollow: bool = False
) -> None:
    middle = ROW / 2
    _line(svg, f"whisker {kind}", scale.x(low), middle, scale.x(high), middle)
    for end in (low, high):
        _line(svg, f"whisker {kind}", scale.x(end), middle - 4, scale.x(end), middle + 4)
    _add(svg, "circle", f"dot {kind}{' hollow' if hollow else ''}", cx=scale.x(value), cy=middle, r=5)


def rule_scale(comparisons: Sequence[Comparison], contrasts: Sequence[Contrast], margin: float) -> Scale:
    ends = [end for c in contrasts for end in (c.low, c.high)]
    ends += [100 * end for c in comparisons for end in (c.low, c.high, c.bound_low_holm, c.bound_high_holm)]
    return scale([*ends, 0, 1.2 * margin, -1.2 * margin], -100, 100)


def rule_row(scale: Scale, c: Comparison, margin: float) -> str:
    """Adapter minus one arm: thick the 95% interval, thin the corrected bounds, shaded what is too small to count."""
    value, bounds = 100 * c.value, (100 * c.bound_low_holm, 100 * c.bound_high_holm)
    svg = _svg(ROW, f"{value:+.1f} points, corrected bounds {bounds[0]:+.1f} to {bounds[1]:+.1f}")
    _rect(svg, "margin", scale.x(-margin), 0, scale.width(-margin, margin), ROW)
    _grid(svg, scale, ROW)
    for weight, low, high in (("thin", *bounds), ("thick", 100 * c.low, 100 * c.high)):
        _line(svg, f"whisker {weight} role-adapter", scale.x(low), ROW / 2, scale.x(high), ROW / 2)
    _add(svg, "circle", "dot role-adapter", cx=scale.x(value), cy=ROW / 2, r=5)
    return _text(svg)


def contrast_row(scale: Scale, c: Contrast) -> str:
    """Adapter minus an arm that decides nothing: the plain interval."""
    svg = _svg(ROW, f"{c.value:+.1f} points, 95% interval {c.low:+.1f} to {c.high:+.1f}")
    _grid(svg, scale, ROW)
    _interval(svg, scale, c.low, c.value, c.high, "role-adapter", hollow=True)
    return _text(svg)


def flips_scale(arms: Sequence[ArmStatistics]) -> Scale:
    """From what was lost (negative) to what was won, percent of all completions; at least 1% on either side."""
    won = max([1.0, *(100 * arm.gained / arm.completions for arm in arms)])
    lost = max([1.0, *(100 * arm.lost / arm.completions for arm in arms)])
    return scale([-lost, won], -100, 100)


def flip_row(scale: Scale, arm: ArmStatistics) -> str:
    """To the right what turned right, to the left what turned wrong, percent of all completions."""
    gained, lost = 100 * arm.gained / arm.completions, 100 * arm.lost / arm.completions
    svg = _svg(ROW, f"wrong to right {gained:.1f} percent, right to wrong {lost:.1f} percent")
    _grid(svg, scale, ROW)
    _rect(svg, "bar right", scale.x(0), 8, scale.width(0, gained), ROW - 16)
    _rect(svg, "bar wrong", scale.x(-lost), 8, scale.width(-lost, 0), ROW - 16)
    return _text(svg)


def problems_strip(changes: Sequence[float]) -> str:
    """One thin bar a problem, sorted: how much of its samples changed for better (up) or worse (down)."""
    up, down, count = sum(c > 0 for c in changes), sum(c < 0 for c in changes), len(changes)
    svg = _svg(72, f"{up} of {count} problems better, {down} worse, {count - up - down} unchanged", "plot strip")
    begin = 0
    # Problems of equal change are one bar: a page holds thousands of them.
    for change, group in itertools.groupby(sorted(changes, reverse=True)):
        length, height = len(list(group)), 34 * abs(change)
        if change:
            kind, top = ("bar right", 36 - height) if change > 0 else ("bar wrong", 36)
            _rect(svg, kind, _part(begin, count), f"{top:.2f}", _part(length, count), f"{height:.2f}")
        begin += length
    _line(svg, "zero", 0, 36, "100%", 36)
    return _text(svg)


def _part(number: float, count: int) -> str:
    return f"{100 * number / count:.3f}%"


def lengths(arm: ArmStatistics, most: tuple[int, int]) -> str:
    """Histogram of the lengths, right answers upwards and wrong ones downwards.

    most: the fullest bins of all arms, right and wrong.
    """
    full_height = 96
    label = f"lengths of {sum(arm.right)} right and {sum(arm.wrong)} wrong completions"
    svg = _svg(full_height, label, "plot strip")
    bins, unit = len(arm.right), (full_height - 4) / max(1, sum(most))
    zero = 2 + most[0] * unit
    bars = [("right", number, count) for number, count in enumerate(arm.right) if count]
    bars += [("wrong", number, count) for number, count in enumerate(arm.wrong) if count]
    for kind, number, count in bars:
        height = max(1.0, count * unit)
        top = zero - height if kind == "right" else zero
        _rect(svg, f"bar {kind}", _part(number, bins), f"{top:.2f}", _part(0.94, bins), f"{height:.2f}")
    _line(svg, "zero", 0, f"{zero:.2f}", "100%", f"{zero:.2f}")
    return _text(svg)


class Axis(NamedTuple):
    """From gains to pixels, upwards."""

    scale: Scale
    height: int

    def at(self, value: float) -> float:
        return 12 + (self.height - 36) * (self.scale.high - value) / (self.scale.high - self.scale.low)

    def y(self, value: float) -> str:
        return f"{self.at(value):.1f}"


def layers(sweep: Sweep) -> str:
    """Gain over base for each layer with its 95% interval; the band spans the random controls, the dashed line is the
    source's own gain.
    """
    points = sweep.places
    values = [0.0, *(end for p in points for end in p.gain_ci), *(c for p in points for c in p.controls)]
    values += [] if sweep.source_gain is None else [sweep.source_gain]
    axis = Axis(scale(values, -100, 100), 280)
    names = ", ".join(str(p.layer) for p in points)
    svg = _svg(axis.height, f"Gain over base for layers {names}; the table below has the numbers")
    for tick in axis.scale.ticks:
        _line(svg, "zero" if tick == 0 else "grid", "8%", axis.y(tick), "100%", axis.y(tick))
        label = _add(svg, "text", "tick", x="6.5%", y=axis.y(tick), dy="0.32em", text_anchor="end")
        label.text = _tick(tick, signed=True)
    numbers = sorted({p.layer for p in points})
    step = 90 / len(numbers)
    for number, layer in enumerate(numbers):
        _layer(svg, axis, 9 + step * number, step, [p for p in points if p.layer == layer])
    if sweep.source_gain is not None:
        gain = axis.y(sweep.source_gain)
        _line(svg, "reference role-source", "8%", gain, "100%", gain)
    return _text(svg)


def _layer(svg: tree.Element, axis: Axis, left: float, width: float, points: Sequence[SweepPoint]) -> None:
    """The column of one layer: left and width in percent."""
    controls = [c for p in points for c in p.controls]
    if controls:
        top, bottom = round(axis.at(max(controls)), 1), round(axis.at(min(controls)), 1)
        _rect(svg, "band", f"{left:.2f}%", f"{top:.1f}", f"{width:.2f}%", f"{max(2.0, bottom - top):.1f}")
    for number, p in enumerate(points, 1):
        x = f"{left + width * number / (len(points) + 1):.2f}%"
        _line(svg, "whisker role-adapter", x, axis.y(p.gain_ci[0]), x, axis.y(p.gain_ci[1]))
        _add(svg, "circle", "dot role-adapter", cx=x, cy=axis.y(p.gain), r=4)
    label = _add(svg, "text", "tick", x=f"{left + width / 2:.2f}%", y=axis.height - 6, text_anchor="middle")
    label.text = str(points[0].layer)
