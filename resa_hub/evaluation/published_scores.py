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
"""Of a two-sided 95% interval under the normal distribution."""


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
        published = f"{self.published:.1f}"
        if self.interval:
            low, high = self.interval
            published += f" [{low:.0f}, {high:.0f}], one sample of {self.problems} problems"
        if self.ours is None:
            return f"{published}; ours: not measured"
        ours = f"ours {self.ours:.1f}"
        if self.ours_interval:
            ours += f" [{self.ours_interval[0]:.1f}, {self.ours_interval[1]:.1f}]"
        return f"{published}; {ours} ({self.settings}){self._position}"

    @property
    def _position(self) -> str:
        """Where ours lies; empty where the published score has no interval."""
        if not self.interval or self.ours is None:
            return ""
        low, high = self.interval
        return ", inside its interval" if low <= self.ours <= high else ", outside its interval"


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
    known = entry_of(name, recipe, registry)
    if known is None:
        return []
    # Of several on one benchmark the last one stays.
    ours = {benchmark: score for benchmark, score in map(_our_score, evaluations) if score}
    lines = []
    for benchmark, score in known[1].scores.items():
        entry, mine = registry.entries["benchmarks"].get(benchmark), ours.get(benchmark)
        problems = entry.value.problems if entry else None
        line = PublishedComparison(benchmark, score, wilson(score, problems) if problems else None, problems)
        lines.append(msgspec.structs.replace(line, **mine) if mine else line)
    return lines


def _our_score(evaluation: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """(benchmark, what `PublishedComparison` tells of ours); the latter is empty for a file without a score of the
    adapter: it may be a stranger's.
    """
    benchmark, arms = str(evaluation["benchmark"]), evaluation.get("arms")
    rows = [arm for arm in arms if isinstance(arm, dict)] if isinstance(arms, list) else []
    arm = next((arm for arm in rows if arm.get("role") == "adapter"), {})
    if not isinstance(arm.get("score"), int | float):
        return benchmark, {}
    settings = (
        f"avg@{evaluation.get('samples')} on {evaluation['target']}, {evaluation['split']}, "
        f"{evaluation.get('problems')} problems"
    )
    return benchmark, {"ours": float(arm["score"]), "ours_interval": _pair(arm.get("score_ci")), "settings": settings}


def _pair(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    return (float(value[0]), float(value[1])) if all(isinstance(end, int | float) for end in value) else None


def wilson(percent: float, count: int) -> tuple[float, float]:
    """95% interval of a share of `count` independent problems, in percent (Wilson 1927).

    statsmodels' `proportion_confint` computes the same, but to import it costs `show` and `recipe show` a second.
    """
    p, z = percent / 100, Z
    middle, spread = p + z * z / (2 * count), z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    scale = 100 / (1 + z * z / count)
    return (middle - spread) * scale, (middle + spread) * scale
