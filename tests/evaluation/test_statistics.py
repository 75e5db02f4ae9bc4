"""Golden cases computed by hand, and properties."""

import itertools
import math
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from resa_hub.core.errors import Usage
from resa_hub.evaluation import statistics

pytestmark = pytest.mark.filterwarnings("error")


def scores(*counts: int, samples: int = 4) -> numpy.ndarray:
    """One problem for each count: that many right answers, the rest wrong."""
    return numpy.array([[1.0] * c + [0.0] * (samples - c) for c in counts])


# Golden cases


def test_average_is_wilson_for_the_effective_number_of_problems():
    # Means .5, .5, .75, .25: variance .125/3, so n_e = .25 / (.125/3/4) = 24; t(3) = 3.1824463 -> reach t sqrt(.25/24 +
    # t2/4/24^2) / (1 + t2/24).
    t = 3.1824463
    reach = t * math.sqrt(0.25 / 24 + t * t / 4 / 576) / (1 + t * t / 24)
    result = statistics.average(scores(2, 2, 3, 1))
    assert (result.value, result.low, result.high) == pytest.approx((0.5, 0.5 - reach, 0.5 + reach), abs=1e-6)
    # Means 0, .5, 1, .5: n_e = .25 / (1/6/4) = 6.
    reach = t * math.sqrt(0.25 / 6 + t * t / 4 / 36) / (1 + t * t / 6)
    assert statistics.average(scores(0, 2, 4, 2)).half_width == pytest.approx(reach, abs=1e-6)


def test_average_of_single_samples_is_wilson():
    # 8 of 10 by Wilson (1927): (.8 + z2/20 -+ z sqrt(.016 + z2/400)) / (1 + z2/10), z = 1.959964.
    result = statistics.average(scores(*[1] * 8, 0, 0, samples=1))
    assert (result.value, result.low, result.high) == pytest.approx((0.8, 0.4901625, 0.9433178), abs=1e-6)


@pytest.mark.parametrize(
    ("count", "low", "high"), [(4, 1 / (1 + 1.959964**2 / 10), 1.0), (0, 0.0, 1 - 1 / (1 + 1.959964**2 / 10))]
)
def test_average_without_spread_still_has_a_width(count: int, low: float, high: float):
    result = statistics.average(scores(*[count] * 10))
    assert (result.value, result.low, result.high) == pytest.approx((count / 4, low, high), abs=1e-6)


def test_difference_by_hand():
    a, b = scores(4, 3, 2, 4), scores(2, 2, 2, 1)
    result = statistics.difference(a, b)
    # d = .5, .25, 0, .75: mean .375, sd sqrt(.3125/3) = .3227486, SE .1613743, t(3) = 3.1824463 -> reach .5135650.
    assert (result.value, result.low, result.high) == pytest.approx((0.375, -0.138565, 0.888565), abs=1e-6)
    # Within problems: d_1 = 0,0,1,1 (1/3), d_2 = 0,0,1,0 (1/4), d_3 = 0 (0), d_4 = 0,1,1,1 (1/4): V = (5/6)/4/16, t(12)
    # = 2.1788128.
    reach = 2.1788128 * math.sqrt(5 / 6 / 4 / 16)
    assert (result.low_same, result.high_same) == pytest.approx((0.375 - reach, 0.375 + reach), abs=1e-6)
    # Three problems differ, all upwards: 2 of the 8 sign patterns are as extreme.
    assert result.p == 0.25


def test_sign_flip_is_exact_when_few_problems_differ():
    # 2 up, 1 up, 1 down: sums of +-2 +-1 +-1 at least as extreme as +-2: 6 of 8, each tail 3 of 8.
    assert statistics.sign_flip_p(scores(2, 1, 0, 4), scores(0, 0, 1, 4)) == 0.75
    # 10 problems up by one: 2 of 1,024.
    assert statistics.sign_flip_p(scores(*[1] * 10), scores(*[0] * 10)) == 2 / 1024


def test_sign_flip_of_many_problems_is_seeded_and_near_the_t_test():
    draw = numpy.random.default_rng(3)
    a, b = (draw.random((60, 4)) < 0.6).astype(float), (draw.random((60, 4)) < 0.5).astype(float)
    p = statistics.sign_flip_p(a, b)
    assert p == statistics.sign_flip_p(a, b)
    t_test: Any = stats.ttest_1samp(a.mean(1) - b.mean(1), 0)
    assert p == pytest.approx(t_test.pvalue, abs=0.02)


def test_no_difference_at_all():
    a = scores(4, 0, 2)
    assert statistics.difference(a, a) == statistics.Difference(0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    assert statistics.one_sided_p(a, a, 0.02, "greater") == statistics.one_sided_p(a, a, -0.02, "less") == 1.0


def test_one_sample_a_problem_has_no_scope_of_these_problems():
    result = statistics.difference(scores(1, 1, 0, samples=1), scores(0, 1, 0, samples=1))
    assert (result.low_same, result.high_same) == (None, None)


def test_one_sided_by_hand():
    a, b = scores(4, 3, 2, 4), scores(2, 2, 2, 1)
    # t = (.375 - .1) / .1613743 = 1.7041 with 3 degrees.
    assert statistics.one_sided_p(a, b, 0.1, "greater") == pytest.approx(stats.t.sf(1.7041126, 3), abs=1e-6)
    assert statistics.one_sided_p(b, a, -0.1, "less") == pytest.approx(statistics.one_sided_p(a, b, 0.1, "greater"))


def test_holm_by_hand():
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([]) == []


def test_non_inferiority_by_hand():
    base, source, adapter = scores(0, 0, 0, 0), scores(4, 4, 4, 4), scores(4, 4, 3, 4)
    # u = 1, 1, .75, 1 and w = 1: u - .5 w has mean .4375, sd .125, SE .0625, t(3) = 3.1824463 -> low .2385971.
    half = statistics.non_inferior(adapter, base, source, 0.5)
    assert half.low == pytest.approx(0.4375 - 3.1824463 * 0.0625, abs=1e-6) and half.holds
    # u - .97 w has mean -.0325: not shown.
    assert not statistics.non_inferior(adapter, base, source).holds
    assert statistics.non_inferior(source, base, source).holds and not statistics.non_inferior(base, source, base).holds


def test_non_inferiority_says_what_fieller_says():
    for seed in range(20):
        arms = gaining_arms(60, seed)
        _, low, _ = known(statistics.retained(*arms))
        for fraction in (0.5, 0.75, 0.97):
            assert statistics.non_inferior(*arms, fraction).holds == (low > fraction)


def test_pass_at_k_by_enumeration():
    arm = scores(0, 1, 3, 5, 2, samples=5)
    for k in range(1, 6):
        brute = numpy.mean([numpy.mean([max(chosen) for chosen in itertools.combinations(row, k)]) for row in arm])
        assert statistics.pass_at_k(arm, k) == pytest.approx(brute)
    assert statistics.pass_at_k(arm, 1) == pytest.approx(arm.mean())


def test_problems_needed():
    assert statistics.problems_needed(30, 0.04, 0.02) == 120
    assert statistics.problems_needed(30, 0.041, 0.02) == 127


# Fieller


def fieller_gap(rho: float, adapter, base, source) -> float:
    """(um - rho wm)^2 - t^2 var(mean of u - rho w): zero at an endpoint. The variance is that of the combined
    differences, no covariances.
    """
    combined = (adapter.mean(1) - base.mean(1)) - rho * (source.mean(1) - base.mean(1))
    t = stats.t.ppf(0.975, len(combined) - 1)
    return float(combined.mean() ** 2 - t**2 * combined.var(ddof=1) / len(combined))


def known(result: statistics.Retained) -> tuple[float, float, float]:
    assert result.identifiable and result.value is not None and result.low is not None and result.high is not None
    return result.value, result.low, result.high


def gaining_arms(problems: int, seed: int = 0) -> tuple[Any, Any, Any]:
    """adapter, base, source on a uniform population: 50% and 60% of the distance to 1 gained."""
    draw = numpy.random.default_rng(seed)
    noise, rate = draw.random((problems, 4)), draw.beta(1, 1, (problems, 1))
    adapter, base, source = ((noise < rate + (1 - rate) * gain).astype(float) for gain in (0.5, 0.0, 0.6))
    return adapter, base, source


def test_fieller_endpoints_satisfy_the_defining_equality():
    arms = gaining_arms(80)
    value, low, high = known(statistics.retained(*arms))
    assert low < value < high
    assert fieller_gap(low, *arms) == pytest.approx(0, abs=1e-12)
    assert fieller_gap(high, *arms) == pytest.approx(0, abs=1e-12)
    assert fieller_gap(value, *arms) < 0 < fieller_gap(high + 0.01, *arms)


def test_fieller_shrinks_to_the_ratio():
    base, source = scores(0, 0, 0), scores(4, 4, 4)
    assert statistics.retained(scores(3, 3, 3), base, source) == statistics.Retained(0.75, 0.75, 0.75, True, "")
    few, many = (known(statistics.retained(*gaining_arms(n))) for n in (100, 10_000))
    assert many[2] - many[1] < 0.2 * (few[2] - few[1])
    assert many[0] == pytest.approx(0.5 / 0.6, abs=0.02)


def test_the_source_keeps_all_of_itself():
    _, base, source = gaining_arms(40)
    result = statistics.retained(source, base, source)
    assert (result.value, result.low, result.high) == pytest.approx((1, 1, 1), abs=1e-6)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ((2, 1, 3, 2), "not distinguishable from 0"),
        ((3, 1, 4, 3), "not distinguishable"),
        ((1, 0, 2, 1), "not positive"),
    ],
)
def test_retained_gain_needs_a_gain_of_the_source(source: tuple[int, ...], reason: str):
    result = statistics.retained(scores(4, 4, 4, 4), scores(2, 1, 3, 2), scores(*source))
    assert (result.value, result.low, result.high, result.identifiable) == (None, None, None, False)
    assert reason in result.reason


# Input that cannot be judged


@pytest.mark.parametrize(
    "call",
    [
        lambda: statistics.average(scores(2)),
        lambda: statistics.average([]),
        lambda: statistics.average([1, 0, 1]),
        lambda: statistics.average([[1, 0], [1]]),
        lambda: statistics.average([[], []]),
        lambda: statistics.average([[1, 0.5], [0, 1]]),
        lambda: statistics.average([[1, math.nan], [0, 1]]),
        lambda: statistics.difference(scores(1, 2), scores(1, 2, 3)),
        lambda: statistics.difference(scores(1, 2), scores(1, 2, samples=5)),
        lambda: statistics.retained(scores(1, 2), scores(1, 2), scores(1, 2, 3)),
        lambda: statistics.pass_at_k(scores(1, 2), 5),
        lambda: statistics.pass_at_k(scores(1, 2), 0),
    ],
)
def test_usage(call):
    with pytest.raises(Usage) as caught:
        call()
    assert caught.value.hint


# Properties

tables = st.tuples(st.integers(2, 12), st.integers(1, 5)).flatmap(
    lambda shape: st.tuples(*[arrays(float, shape, elements=st.sampled_from([0.0, 1.0]))] * 3)
)


def test_how_many_problems_carry_a_difference():
    assert statistics.participation_ratio(scores(4, 4, 4), scores(0, 0, 0)) == 3
    assert statistics.participation_ratio(scores(4, 0, 0), scores(0, 0, 0)) == 1
    assert statistics.participation_ratio(scores(4, 2, 0), scores(0, 0, 0)) == pytest.approx(1.5**2 / 1.25)
    assert statistics.participation_ratio(scores(1, 2), scores(1, 2)) == 2


def population_of_scores(a: float, b: float, problems: int, runs: int = 400) -> float:
    """Share of runs in which the interval of avg@4 holds the mean of Beta(a, b)."""
    draw, inside = numpy.random.default_rng(5), 0
    for _ in range(runs):
        interval = statistics.average((draw.random((problems, 4)) < draw.beta(a, b, (problems, 1))).astype(float))
        inside += interval.low <= a / (a + b) <= interval.high
    return inside / runs


@pytest.mark.parametrize("population", [(1.0, 1.0), (0.3, 0.3), (0.1, 0.9), (0.9, 0.1)])
def test_the_interval_of_a_score_covers_skewed_populations_too(population: tuple[float, float]):
    """20,000 runs: 95.5%, 96.1%, 93.7%, 93.8%; a t interval covers 90% of the last two."""
    assert 0.915 <= population_of_scores(*population, problems=30) <= 0.98


@settings(max_examples=60, deadline=None)
@given(tables)
def test_intervals_are_finite_contain_their_value_and_mirror(arms):
    a, b, c = arms
    one = statistics.average(a)
    assert 0 <= one.low <= one.value <= one.high <= 1
    forth, back = statistics.difference(a, b), statistics.difference(b, a)
    assert -1 <= forth.low <= forth.value <= forth.high <= 1
    assert 0 < forth.p <= 1 and forth.p == back.p
    assert (forth.value, forth.low, forth.high) == pytest.approx((-back.value, -back.high, -back.low))
    if forth.low_same is not None and forth.high_same is not None:
        assert -1 <= forth.low_same <= forth.value <= forth.high_same <= 1
        assert forth.low_same == pytest.approx(-(back.high_same or 0.0))
    retained = statistics.retained(a, b, c)
    if retained.identifiable:
        value, low, high = known(retained)
        assert -math.inf < low <= value <= high < math.inf
    assert 0 <= statistics.one_sided_p(a, b, 0.02, "greater") <= 1
