"""How many problems and samples show a difference, and what they cost: before anything is generated.

n = (z / delta)^2 (w^2 + v / K) with z = z(1 - alpha / 2) + z(power) = 2.80 for 95% and 80%: w is the standard deviation of the true effect over problems, v the
variance of the difference of two single answers to one problem (2 E[p (1 - p)] for independent answers). On these problems w counts nothing.
"""

import math

import msgspec

LEVEL, POWER = 0.95, 0.80
EFFECT_SPREAD = 0.10
"""w where nothing was measured: a mean effect of 3 points made of gains of 30 points on one problem in ten has 9."""
USUAL_SCORE = 0.5
"""Where no score of the base is known: the worst case."""


class Spread(msgspec.Struct, frozen=True):
    """What the size of an evaluation depends on, as shares."""

    effect: float
    """w: standard deviation of the true difference over problems."""
    answers: float
    """v: variance of the difference of two single answers to one problem."""
    origin: str
    """Measured, or assumed and how."""

    @classmethod
    def assumed(cls, score: float | None, of: str = "") -> "Spread":
        """From a base score alone: problem rates from a Beta with a + b = 1 (most problems are mostly solved or mostly not), so E[p (1 - p)] is half of
        score (1 - score): the K of 40 to 70 that is known for AIME24 comes out."""
        mean = USUAL_SCORE if score is None else score
        text = f"assumed: base score {100 * mean:.1f}%{f' ({of})' if of else ''}, effects that differ by {100 * EFFECT_SPREAD:.0f} points between problems"
        return cls(EFFECT_SPREAD, mean * (1 - mean), text)

    @classmethod
    def measured(cls, half_width: float, half_width_same: float, problems: int, samples: int) -> "Spread":
        """From the two 95% intervals of an evaluation of n problems and K samples: their half-widths are t SE, and SE^2 = (w^2 + v / K) / n and v / K / n."""
        from scipy import stats

        total = (half_width / float(stats.t.ppf(0.975, problems - 1))) ** 2 * problems
        within = (half_width_same / float(stats.t.ppf(0.975, problems * (samples - 1)))) ** 2 * problems
        return cls(math.sqrt(max(0.0, total - within)), within * samples, f"measured on {problems} problems x {samples} samples")


def reach(power: float = POWER, level: float = LEVEL) -> float:
    """z(1 - alpha / 2) + z(power): 2.80."""
    from scipy import stats

    return float(stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(power))


def problems_needed(delta: float, spread: Spread, samples: int) -> int:
    """Problems of K samples each that show `delta` on new problems of the kind."""
    return max(2, math.ceil((reach() / delta) ** 2 * (spread.effect**2 + spread.answers / samples) - 1e-9))


def samples_needed(delta: float, spread: Spread, problems: int) -> int:
    """Samples a problem that show `delta` on these n problems."""
    return max(1, math.ceil((reach() / delta) ** 2 * spread.answers / problems - 1e-9))


def samples_needed_new(delta: float, spread: Spread, problems: int) -> int | None:
    """Samples a problem that show `delta` on new problems of the kind; None where more samples do not help, only more problems."""
    left = problems * (delta / reach()) ** 2 - spread.effect**2
    return max(1, math.ceil(spread.answers / left - 1e-9)) if left > 0 else None


def detectable(spread: Spread, problems: int, samples: int, same_problems: bool = False) -> float:
    """The smallest difference that n problems x K samples show."""
    effect = 0.0 if same_problems else spread.effect**2
    return reach() * math.sqrt((effect + spread.answers / samples) / problems)
