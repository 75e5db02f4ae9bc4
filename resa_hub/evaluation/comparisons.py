"""Adapters compared with the arms that they have to beat, corrected as one family a side by Holm (1979)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..adapter.results import Comparison
from . import statistics
from .statistics import Interval


class ArmPair(NamedTuple):
    """Scores of an adapter and of an arm it has to beat, [n problems, K samples] each."""

    adapter: str
    against: str
    scores: Any
    other_scores: Any

    def interval(self, level: float) -> Interval:
        return statistics.paired_interval(self.scores, self.other_scores, level)


class _HolmTest(NamedTuple):
    p: float
    """Adjusted."""
    divisor: int
    """What alpha is divided by for this test."""


def compare(pairs: Sequence[ArmPair], margin: float, level: float) -> list[Comparison]:
    """A comparison for each pair: is the difference above the margin, is it below -margin? `level` is two-sided, each
    side is tested at half of the rest.
    """
    alpha = (1 - level) / 2
    above = [statistics.one_sided_p(pair.scores, pair.other_scores, margin, "greater") for pair in pairs]
    below = [statistics.one_sided_p(pair.scores, pair.other_scores, -margin, "less") for pair in pairs]
    above_tests, below_tests = _holm_tests(above, alpha), _holm_tests(below, alpha)
    comparisons = []
    for pair, above_test, below_test in zip(pairs, above_tests, below_tests, strict=True):
        uncorrected = pair.interval(level)
        comparison = Comparison(
            against=pair.against,
            value=uncorrected.value,
            low=uncorrected.low,
            high=uncorrected.high,
            p_holm_above_margin=above_test.p,
            p_holm_below=below_test.p,
            bound_low_holm=pair.interval(1 - 2 * alpha / above_test.divisor).low,
            bound_high_holm=pair.interval(1 - 2 * alpha / below_test.divisor).high,
        )
        comparisons.append(comparison)
    return comparisons


def _holm_tests(p_values: list[float], alpha: float) -> list[_HolmTest]:
    """The tests of one family. Alpha is divided by the tests still open at a test's step, k - rank + 1, and where Holm
    has stopped, by those that were open at the step where it stopped.
    """
    adjusted = statistics.holm(p_values)
    rejected = sum(p < alpha for p in adjusted)
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    divisors = {index: len(order) - min(rank, rejected) for rank, index in enumerate(order)}
    return [_HolmTest(p, divisors[index]) for index, p in enumerate(adjusted)]
