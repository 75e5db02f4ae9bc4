"""How many problems and samples show a difference, and what they cost: before anything is generated.

n = (z / delta)^2 (w^2 + v / K) with z = z(1 - alpha / 2) + z(power) = 2.80 for 95% and 80%: w is the standard deviation
of the true effect over problems, v the variance of the difference of two single answers to one problem (2 E[p (1 - p)]
for independent answers). On these problems w counts nothing.
"""

import math
from collections.abc import Sequence

import msgspec

from ..adapter.results import load_evaluations
from ..adapter.workspace import Workspace
from ..core.errors import Usage
from . import decoding
from .evaluate import EvalSettings, plan

LEVEL, POWER = 0.95, 0.80
EFFECT_SPREAD = 0.10
"""w where nothing was measured: a mean effect of 3 points made of gains of 30 points on one problem in ten has 9."""
USUAL_SCORE = 0.5
"""Where no score of the base is known: the worst case."""


class VarianceEstimate(msgspec.Struct, frozen=True):
    """What the size of an evaluation depends on, as shares."""

    effect: float
    """w: standard deviation of the true difference over problems."""
    answers: float
    """v: variance of the difference of two single answers to one problem."""
    origin: str
    """Measured, or assumed and how."""

    @classmethod
    def assumed(cls, score: float | None, of: str = "") -> "VarianceEstimate":
        """From a base score alone: problem rates from a Beta with a + b = 1 (most problems are mostly solved or mostly
        not), so E[p (1 - p)] is half of score (1 - score): the K of 40 to 70 that is known for AIME24 comes out.
        """
        mean = USUAL_SCORE if score is None else score
        text = (
            f"assumed: base score {100 * mean:.1f}%{f' ({of})' if of else ''}, effects that differ by "
            f"{100 * EFFECT_SPREAD:.0f} points between problems"
        )
        return cls(EFFECT_SPREAD, mean * (1 - mean), text)

    @classmethod
    def measured(cls, half_width: float, half_width_same: float, problems: int, samples: int) -> "VarianceEstimate":
        """From the two 95% intervals of an evaluation of n problems and K samples: their half-widths are t SE, and SE^2
        = (w^2 + v / K) / n and v / K / n.
        """
        from scipy import stats

        total = (half_width / float(stats.t.ppf(0.975, problems - 1))) ** 2 * problems
        within = (half_width_same / float(stats.t.ppf(0.975, problems * (samples - 1)))) ** 2 * problems
        return cls(
            math.sqrt(max(0.0, total - within)),
            within * samples,
            f"measured on {problems} problems x {samples} samples",
        )


def reach(power: float = POWER, level: float = LEVEL) -> float:
    """z(1 - alpha / 2) + z(power): 2.80."""
    from scipy import stats

    return float(stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(power))


def problems_needed(delta: float, spread: VarianceEstimate, samples: int) -> int:
    """Problems of K samples each that show `delta` on new problems of the kind."""
    return max(2, math.ceil((reach() / delta) ** 2 * (spread.effect**2 + spread.answers / samples) - 1e-9))


def samples_needed(delta: float, spread: VarianceEstimate, problems: int) -> int:
    """Samples a problem that show `delta` on these n problems."""
    return max(1, math.ceil((reach() / delta) ** 2 * spread.answers / problems - 1e-9))


def samples_needed_new(delta: float, spread: VarianceEstimate, problems: int) -> int | None:
    """Samples a problem that show `delta` on new problems of the kind; None where more samples do not help, only more
    problems.
    """
    left = problems * (delta / reach()) ** 2 - spread.effect**2
    return max(1, math.ceil(spread.answers / left - 1e-9)) if left > 0 else None


def minimum_detectable_effect(
    spread: VarianceEstimate, problems: int, samples: int, same_problems: bool = False
) -> float:
    """The smallest difference that n problems x K samples show."""
    effect = 0.0 if same_problems else spread.effect**2
    return reach() * math.sqrt((effect + spread.answers / samples) / problems)


FEWEST_POINTS = 0.1


class Size(msgspec.Struct, frozen=True):
    """An evaluation of n problems x K samples; differences in points."""

    problems: int
    samples: int
    detects: float
    """The smallest difference shown with 80% power on new problems of the kind."""
    detects_same: float
    """The same on these problems."""


class Sizing(msgspec.Struct, frozen=True):
    benchmark: str
    available: int | None
    """Problems there are; None for a generator."""
    detect: float
    """Points."""
    spread: VarianceEstimate
    asked: Size
    needed: Size | None
    """On new problems of the kind, the fewest completions; None where this benchmark has too few problems for any
    number of samples.
    """
    needed_same: Size
    """On these problems: samples alone."""
    arms: int
    completions: int
    """Of all arms, at the size `chosen`: needed where there is one, else needed_same."""
    tokens: int
    tokens_are: str
    gpu_hours: dict[str, float]
    """Name of a GPU -> estimated hours on one of them."""


def size(
    names: Sequence[str], target: str, settings: EvalSettings, detect: float, workspace: Workspace, force: bool = False
) -> Sizing:
    """What it takes to show `detect` points between an adapter and base. Raises the errors of `plan`."""
    if not FEWEST_POINTS <= detect <= 100:
        raise Usage(
            f"a difference of {detect:g} points cannot be planned for",
            f"--detect between {FEWEST_POINTS} and 100, for example 3",
        )
    made = plan(names, target, settings, workspace, force)
    delta, spread, tokens, tokens_are = detect / 100, *_known(made, workspace)
    fixed = "full" in made.benchmark.splits
    available = len(made.benchmark.problems(made.settings.split)) if fixed else None

    def sized(problems: int, samples: int) -> Size:
        found = [100 * minimum_detectable_effect(spread, problems, samples, same) for same in (False, True)]
        return Size(problems, samples, *found)

    asked = sized(len(made.problems), settings.samples)
    same = sized(len(made.problems), samples_needed(delta, spread, len(made.problems)))
    needed = _fewest(delta, spread, available)
    chosen = needed and sized(*needed)
    completions = len(made.arms) * (chosen or same).problems * (chosen or same).samples
    return Sizing(
        benchmark=made.benchmark.name,
        available=available,
        detect=detect,
        spread=spread,
        asked=asked,
        needed=chosen,
        needed_same=same,
        arms=len(made.arms),
        completions=completions,
        tokens=round(completions * tokens),
        tokens_are=tokens_are,
        gpu_hours=decoding.hours(made.target.config, completions, tokens),
    )


def _fewest(delta: float, spread: VarianceEstimate, available: int | None) -> tuple[int, int] | None:
    """(problems, samples) of the fewest completions, at least two samples, within the problems there are."""
    sizes = [(problems_needed(delta, spread, samples), samples) for samples in range(2, 65)]
    fitting = [(problems, samples) for problems, samples in sizes if available is None or problems <= available]
    if fitting:
        return min(fitting, key=lambda size: size[0] * size[1])
    more = samples_needed_new(delta, spread, available) if available else None
    return (available, more) if available and more and more <= 1_024 else None


def _known(made, workspace: Workspace) -> tuple[VarianceEstimate, float, str]:
    """(spread, mean tokens of a completion, what these tokens are): from an evaluation beside one of the adapters, else
    from the scores that are published.
    """
    for adapter, _ in made.adapters.values():
        for found in reversed(load_evaluations(adapter)):
            told = {"problems", "samples", "gain_ci", "gain_ci_same_problems", "gain", "arms"}
            own = not found.get("harness") and (found.get("benchmark"), found.get("target")) == (
                made.benchmark.name,
                made.target_name,
            )
            if own and found.keys() >= told and found["samples"] > 1:
                new, same = ((found[ci][1] - found[ci][0]) / 200 for ci in ("gain_ci", "gain_ci_same_problems"))
                tokens = max(arm["tokens"] for arm in found["arms"])
                return (
                    VarianceEstimate.measured(new, same, found["problems"], found["samples"]),
                    tokens,
                    f"{tokens:.0f} a completion, measured",
                )
    published = workspace.registry.entries["published"]
    for name in (f"{made.target_name}-10-seeds", made.target_name):
        score = published[name].value.scores.get(made.benchmark.name) if name in published else None
        if score is not None:
            return (
                VarianceEstimate.assumed(score / 100, name),
                made.asked.new_tokens,
                "at most: the whole budget of every completion",
            )
    return VarianceEstimate.assumed(None), made.asked.new_tokens, "at most: the whole budget of every completion"
