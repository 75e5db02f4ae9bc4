"""Inline SVG without fixed width: x in percent, y in pixels, colours by class. A chart is drawn row by row, so that its
labels are text of the page.
"""

import itertools
import math
import xml.etree.ElementTree as tree
from collections.abc import Sequence
from typing import NamedTuple

from .data import Arm, ArmSeen, Comparison, Contrast, Curve, PublishedScore

ROW = 30
"""Height of a row, pixels."""
EDGE = 2.5
"""Percent of the width that stays free on either side."""


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


def scale(values: Sequence[float], floor: float = -math.inf, ceiling: float = math.inf, count: int = 5) -> Scale:
    """Round ticks around all values, inside floor and ceiling."""
    low, high = max(min(values), floor), min(max(values), ceiling)
    if high - low < 1e-9:
        low, high = low - 1, high + 1
    step = next(s for s in (m * 10**e for e in range(-4, 8) for m in (1, 2, 5)) if (high - low) / s <= count)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(tick for tick in (round(n * step, 6) for n in range(first, last + 1)) if floor <= tick <= ceiling)
    return (
        Scale(max(ticks[0], floor), min(ticks[-1], ceiling), ticks)
        if len(ticks) > 1
        else Scale(max(low, floor), min(high, ceiling), ticks)
    )


def _svg(height: int, label: str, kind: str = "plot") -> tree.Element:
    svg = tree.Element("svg", {"class": kind, "width": "100%", "height": str(height), "role": "img"})
    if label:
        svg.set("aria-label", label)
    else:
        svg.attrib.pop("role")
        svg.set("aria-hidden", "true")
    return svg


def _add(parent: tree.Element, tag: str, kind: str, **attributes: object) -> tree.Element:
    return tree.SubElement(
        parent,
        tag,
        {"class": kind, **{key.rstrip("_").replace("_", "-"): str(value) for key, value in attributes.items()}},
    )


def _line(svg: tree.Element, kind: str, x1: object, y1: object, x2: object, y2: object) -> None:
    _add(svg, "line", kind, x1=x1, y1=y1, x2=x2, y2=y2)


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
        label.text = (f"{tick:+g}" if signed and tick else f"{tick:g}").replace("-", "\u2212")
    return _text(svg)


def arms_scale(arms: Sequence[Arm], published: Sequence[PublishedScore]) -> Scale:
    ends = [end for arm in arms for end in arm.score_ci]
    ends += [end for p in published for end in (p.score_ci or (p.score, p.score))]
    return scale(ends, 0, 100)


def arm_row(scale: Scale, arm: Arm | PublishedScore, role: str, base: float | None) -> str:
    """A dot with its 95% interval; the dashed line is base. `role` is one that the style knows."""
    low, high = arm.score_ci or (arm.score, arm.score)
    label = (
        f"{arm.score:.1f} percent, 95% interval {low:.1f} to {high:.1f}" if arm.score_ci else f"{arm.score:.1f} percent"
    )
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
    svg = _svg(
        ROW,
        f"{100 * c.value:+.1f} points, corrected bounds {100 * c.bound_low_holm:+.1f} to "
        f"{100 * c.bound_high_holm:+.1f}",
    )
    _add(
        svg, "rect", "margin", x=scale.x(-margin), y=0, width=f"{scale.at(margin) - scale.at(-margin):.2f}%", height=ROW
    )
    _grid(svg, scale, ROW)
    middle = ROW / 2
    _line(
        svg,
        "whisker thin role-adapter",
        scale.x(100 * c.bound_low_holm),
        middle,
        scale.x(100 * c.bound_high_holm),
        middle,
    )
    _line(svg, "whisker thick role-adapter", scale.x(100 * c.low), middle, scale.x(100 * c.high), middle)
    _add(svg, "circle", "dot role-adapter", cx=scale.x(100 * c.value), cy=middle, r=5)
    return _text(svg)


def contrast_row(scale: Scale, c: Contrast) -> str:
    """Adapter minus an arm that decides nothing: the plain interval."""
    svg = _svg(ROW, f"{c.value:+.1f} points, 95% interval {c.low:+.1f} to {c.high:+.1f}")
    _grid(svg, scale, ROW)
    _interval(svg, scale, c.low, c.value, c.high, "role-adapter", hollow=True)
    return _text(svg)


def flips_scale(arms: Sequence[ArmSeen]) -> Scale:
    won = max([1.0, *(100 * arm.gained / arm.completions for arm in arms)])
    lost = max([1.0, *(100 * arm.lost / arm.completions for arm in arms)])
    return scale([-lost, won], -100, 100)


def flip_row(scale: Scale, arm: ArmSeen) -> str:
    """To the right what turned right, to the left what turned wrong, percent of all completions."""
    gained, lost = 100 * arm.gained / arm.completions, 100 * arm.lost / arm.completions
    svg = _svg(ROW, f"wrong to right {gained:.1f} percent, right to wrong {lost:.1f} percent")
    _grid(svg, scale, ROW)
    _add(svg, "rect", "bar right", x=scale.x(0), y=8, width=f"{scale.at(gained) - scale.at(0):.2f}%", height=ROW - 16)
    _add(
        svg, "rect", "bar wrong", x=scale.x(-lost), y=8, width=f"{scale.at(0) - scale.at(-lost):.2f}%", height=ROW - 16
    )
    return _text(svg)


def problems_strip(changes: Sequence[float]) -> str:
    """One thin bar a problem, sorted: how much of its samples changed for better (up) or worse (down)."""
    up, down, count = sum(c > 0 for c in changes), sum(c < 0 for c in changes), len(changes)
    svg = _svg(72, f"{up} of {count} problems better, {down} worse, {count - up - down} unchanged", "plot strip")
    place = 0
    for change, group in itertools.groupby(sorted(changes, reverse=True)):
        length = len(list(group))
        if change:
            height = 34 * abs(change)
            kind, y = ("right", 36 - height) if change > 0 else ("wrong", 36)
            x, width = f"{100 * place / count:.3f}%", f"{100 * length / count:.3f}%"
            _add(svg, "rect", f"bar {kind}", x=x, width=width, y=f"{y:.2f}", height=f"{height:.2f}")
        place += length
    _line(svg, "zero", 0, 36, "100%", 36)
    return _text(svg)


def lengths(arm: ArmSeen, most: tuple[int, int]) -> str:
    """Histogram of the lengths, right answers upwards and wrong ones downwards; `most`: the fullest bins of all arms,
    right and wrong.
    """
    room = 96
    svg = _svg(room, f"lengths of {sum(arm.right)} right and {sum(arm.wrong)} wrong completions", "plot strip")
    bins, unit = len(arm.right), (room - 4) / max(1, sum(most))
    zero = 2 + most[0] * unit
    for kind, counts in (("right", arm.right), ("wrong", arm.wrong)):
        for number, count in enumerate(counts):
            if count:
                height = max(1.0, count * unit)
                y = zero - height if kind == "right" else zero
                _add(
                    svg,
                    "rect",
                    f"bar {kind}",
                    x=f"{100 * number / bins:.3f}%",
                    width=f"{94 / bins:.3f}%",
                    y=f"{y:.2f}",
                    height=f"{height:.2f}",
                )
    _line(svg, "zero", 0, f"{zero:.2f}", "100%", f"{zero:.2f}")
    return _text(svg)


class Axis(NamedTuple):
    """From gains to pixels, upwards."""

    scale: Scale
    height: int

    def y(self, value: float) -> str:
        return f"{12 + (self.height - 36) * (self.scale.high - value) / (self.scale.high - self.scale.low):.1f}"


def layers(curve: Curve) -> str:
    """Gain over base for each layer with its 95% interval; the band spans the random controls, the dashed line is the
    source's own gain.
    """
    values = [0.0, *(end for p in curve.places for end in p.gain_ci), *(c for p in curve.places for c in p.controls)]
    values += [] if curve.source_gain is None else [curve.source_gain]
    up = Axis(scale(values, -100, 100), 280)
    svg = _svg(
        up.height,
        f"Gain over base for layers {', '.join(str(p.layer) for p in curve.places)}; the table below has the numbers",
    )
    for tick in up.scale.ticks:
        _line(svg, "zero" if tick == 0 else "grid", "8%", up.y(tick), "100%", up.y(tick))
        label = _add(svg, "text", "tick", x="6.5%", y=up.y(tick), dy="0.32em", text_anchor="end")
        label.text = f"{tick:+g}".replace("-", "\u2212") if tick else "0"
    found = sorted({p.layer for p in curve.places})
    step = 90 / len(found)
    for number, layer in enumerate(found):
        here = [p for p in curve.places if p.layer == layer]
        controls = [c for p in here for c in p.controls]
        if controls:
            top, bottom = float(up.y(max(controls))), float(up.y(min(controls)))
            _add(
                svg,
                "rect",
                "band",
                x=f"{9 + step * number:.2f}%",
                width=f"{step:.2f}%",
                y=f"{top:.1f}",
                height=f"{max(2.0, bottom - top):.1f}",
            )
        for place, p in enumerate(here):
            x = f"{9 + step * (number + (place + 1) / (len(here) + 1)):.2f}%"
            _line(svg, "whisker role-adapter", x, up.y(p.gain_ci[0]), x, up.y(p.gain_ci[1]))
            _add(svg, "circle", "dot role-adapter", cx=x, cy=up.y(p.gain), r=4)
        label = _add(svg, "text", "tick", x=f"{9 + step * (number + 0.5):.2f}%", y=up.height - 6, text_anchor="middle")
        label.text = str(layer)
    if curve.source_gain is not None:
        _line(svg, "reference role-source", "8%", up.y(curve.source_gain), "100%", up.y(curve.source_gain))
    return _text(svg)
