"""Published scores beside our own: what was claimed, how far one sample a problem can be trusted, and what we
measured.
"""

import math
from typing import Any

import msgspec

from ..config.recipe import Recipe
from ..config.registry import Registry
from ..config.schema import PublishedEntry

Z = 1.96


class PublishedComparison(msgspec.Struct, frozen=True):
    """One benchmark, in percent."""

    benchmark: str
    published: float
    interval: tuple[float, float] | None
    """95% of the published score by the sampling of its problems alone; null where their number is not known."""
    problems: int | None
    ours: float | None = None
    ours_interval: tuple[float, float] | None = None
    settings: str = ""
    """Of our evaluation."""

    @property
    def sentence(self) -> str:
        low, high = self.interval or (math.nan, math.nan)
        told = f"{self.published:.1f}" + (
            f" [{low:.0f}, {high:.0f}], one sample of {self.problems} problems" if self.interval else ""
        )
        if self.ours is None:
            return f"{told}; ours: not measured"
        mine = f"ours {self.ours:.1f}" + (
            f" [{self.ours_interval[0]:.1f}, {self.ours_interval[1]:.1f}]" if self.ours_interval else ""
        )
        inside = (
            ""
            if not self.interval
            else ", inside its interval"
            if low <= self.ours <= high
            else ", outside its interval"
        )
        return f"{told}; {mine} ({self.settings}){inside}"


def entry_of(name: str, recipe: Recipe | None, registry: Registry) -> tuple[str, PublishedEntry] | None:
    """The published result of an adapter: that of its own name, or of the recipe that it was made by whatever it is
    called.
    """
    known = registry.entries["published"]
    if name in known:
        return name, known[name].value
    for other, entry in known.items():
        if recipe is not None and other in registry.entries["recipes"] and registry.recipe(other) == recipe:
            return other, entry.value
    return None


def compare(
    name: str, recipe: Recipe | None, evaluations: list[dict[str, Any]], registry: Registry
) -> list[PublishedComparison]:
    """A line for each published score; the latest evaluation on that benchmark is ours."""
    found = entry_of(name, recipe, registry)
    lines = []
    for benchmark, score in found[1].scores.items() if found else ():
        problems = (
            registry.entries["benchmarks"][benchmark].value.problems
            if benchmark in registry.entries["benchmarks"]
            else None
        )
        line = PublishedComparison(benchmark, score, wilson(score, problems) if problems else None, problems)
        mine = next((pair for pair in map(_ours, reversed(evaluations)) if pair and pair[0] == benchmark), None)
        lines.append(
            msgspec.structs.replace(line, ours=mine[1], ours_interval=mine[2], settings=mine[3]) if mine else line
        )
    return lines


def _ours(evaluation: dict[str, Any]) -> tuple[str, float, tuple[float, float] | None, str] | None:
    """(benchmark, score, interval, settings) of the adapter's arm; None for a file that does not tell: it may be a
    stranger's.
    """
    arms = evaluation.get("arms")
    found = [arm for arm in arms if isinstance(arm, dict)] if isinstance(arms, list) else []
    arm = next((arm for arm in found if arm.get("role") == "adapter"), {})
    score, interval = arm.get("score"), arm.get("score_ci")
    if not isinstance(score, int | float):
        return None
    if not isinstance(interval, list | tuple) or not all(isinstance(end, int | float) for end in interval):
        interval = ()
    settings = (
        f"avg@{evaluation.get('samples')} on {evaluation['target']}, {evaluation['split']}, "
        f"{evaluation.get('problems')} problems"
    )
    ends = (float(interval[0]), float(interval[1])) if len(interval) == 2 else None
    return str(evaluation["benchmark"]), float(score), ends, settings


def wilson(percent: float, count: int) -> tuple[float, float]:
    """95% interval of a share of `count` independent problems, in percent (Wilson 1927)."""
    p, z = percent / 100, Z
    middle, spread = p + z * z / (2 * count), z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    scale = 100 / (1 + z * z / count)
    return (middle - spread) * scale, (middle + spread) * scale
