"""Estimators of one arm and of pairs of arms. The problem is the cluster: no interval treats the samples of one problem
as independent problems.

Scores are arrays [n problems, K samples] of 0 and 1; every result is a share (0..1), never points. `level` is the
coverage of a two-sided interval.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from ..core.errors import Usage

RESAMPLES = 9_999
"""Of the sign-flip test."""
LOW_PARTICIPATION = 10
"""Problems that carry a difference: with fewer, its interval covers too little."""


class Interval(msgspec.Struct, frozen=True):
    """An estimate with the ends of its confidence interval."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """The longer arm, so that an end cut at the edge of the possible range does not make the interval look
        narrow.
        """
        return max(self.high - self.value, self.value - self.low)


class Difference(Interval, frozen=True):
    """Mean of the paired differences; value, low and high are on new problems of this kind."""

    low_same: float | None
    high_same: float | None
    """low_same, high_same: on these problems, over new samples; None with one sample a problem."""
    p: float
    """Two-sided, sign-flip permutation over problems; H0: the difference is symmetric around 0."""


class Retained(msgspec.Struct, frozen=True):
    """(adapter - base) / (source - base); all three numbers are None when it is not identifiable."""

    value: float | None
    low: float | None
    high: float | None
    identifiable: bool
    reason: str
    """Why not; empty when identifiable."""


class NonInferior(msgspec.Struct, frozen=True):
    """Whether a share of the source's gain is kept."""

    fraction: float
    low: float
    """Lower bound of gain - fraction * gain of the source, a share of answers."""
    holds: bool


def average(scores: Any, level: float = 0.95) -> Interval:
    """avg@K: the mean over problems, with Wilson's (1927) interval for the effective number of problems.

    The standard error is sd / sqrt(n) of the problem means. n_effective = mean (1 - mean) / SE^2 is how many
    independent single answers would have this standard error (Kish 1965, Survey Sampling); the quantile is that of t
    with n - 1 degrees of freedom. A plain t interval covers 90% in place of 95% at n = 30 where most problems are
    solved or most are not; this one 93% to 96% on every population of `python -m bench coverage`. For K == 1, and for
    equal problem means, n_effective = n: Wilson's own interval.
    """
    import numpy
    from scipy import stats
    from statsmodels.stats.proportion import proportion_confint

    (scores,) = checked(scores)
    problem_means = scores.mean(axis=1)
    n = len(problem_means)
    mean, n_effective, alpha = float(scores.mean()), float(n), 1 - level
    if scores.shape[1] > 1 and numpy.ptp(problem_means) > 0:
        n_effective = mean * (1 - mean) / float(problem_means.var(ddof=1)) * n
        # `proportion_confint` takes normal quantiles: this alpha makes its quantile that of t.
        alpha = float(2 * stats.norm.sf(stats.t.ppf((1 + level) / 2, n - 1)))
    wilson: Any = proportion_confint(mean * n_effective, n_effective, alpha=alpha, method="wilson")
    low, high = wilson
    return Interval(mean, max(0.0, min(float(low), mean)), min(1.0, max(float(high), mean)))


def difference(a: Any, b: Any, level: float = 0.95) -> Difference:
    """Mean of a - b in both scopes with the sign-flip p; `paired_interval` and `same_problems_interval` say how."""
    new = paired_interval(a, b, level)
    same = same_problems_interval(a, b, level)
    return Difference(
        value=new.value,
        low=new.low,
        high=new.high,
        low_same=same.low if same else None,
        high_same=same.high if same else None,
        p=sign_flip_p(a, b),
    )


def paired_interval(a: Any, b: Any, level: float = 0.95) -> Interval:
    """Mean of a - b "on new problems of this kind": t interval over the n differences of problem means. No width when
    all of them are equal.
    """
    d = _problem_differences(a, b)
    mean = float(d.mean())
    low, high = _t_interval(d, level)
    return Interval(mean, max(-1.0, min(low, mean)), min(1.0, max(high, mean)))


def same_problems_interval(a: Any, b: Any, level: float = 0.95) -> Interval | None:
    """Mean of a - b "on these problems", over new samples; None when K == 1.

    d_ij = a_ij - b_ij shares its random numbers, so the variance is taken within problems: V = sum_i var_j(d_ij) / K /
    n^2. t with n (K - 1) degrees of freedom, the number that the pooled within-problem variance has.
    """
    from scipy import stats

    a, b = checked(a, b)
    n, k = a.shape
    if k == 1:
        return None
    mean = float(_problem_differences(a, b).mean())
    variance = (a - b).var(axis=1, ddof=1).sum() / k / n**2
    half_width = float(stats.t.ppf((1 + level) / 2, n * (k - 1)) * math.sqrt(variance))
    return Interval(mean, max(-1.0, mean - half_width), min(1.0, mean + half_width))


def sign_flip_p(a: Any, b: Any) -> float:
    """Two-sided p of the sign-flip permutation test over problems.

    Exact up to 13 problems that differ, else from 9,999 seeded resamples. Problems that do not differ are left out:
    flipping the sign of 0 changes nothing. Counts, not shares, so that ties are exact.
    """
    import numpy
    from scipy import stats

    a, b = checked(a, b)
    counts = (a - b).sum(axis=1)
    counts = counts[counts != 0]
    if len(counts) < 2:
        return 1.0
    test = stats.permutation_test(
        (counts,), numpy.sum, permutation_type="samples", vectorized=True, n_resamples=RESAMPLES, batch=1_000, rng=0
    )
    return min(1.0, float(test.pvalue))


def participation_ratio(a: Any, b: Any) -> float:
    """About how many problems carry the mean of a - b: (sum |d|)^2 / sum d^2 over the n differences of problem means.

    n for equal differences, 1 for a single one; n where nothing differs. Below `LOW_PARTICIPATION` an interval of 95%
    covers 89% to 92% at n = 30 (`python -m bench coverage`), and misses lie on the side of 0.
    """
    import numpy

    d = _problem_differences(a, b)
    sum_of_squares = float((d**2).sum())
    return float(numpy.abs(d).sum() ** 2 / sum_of_squares) if sum_of_squares else float(len(d))


def one_sided_p(a: Any, b: Any, margin: float, side: Literal["greater", "less"]) -> float:
    """p of the t test over problems that mean(a - b) > margin ("greater") or < margin ("less")."""
    import numpy
    from scipy import stats

    d = _problem_differences(a, b)
    if numpy.ptp(d) == 0:  # no variance, so no t
        beyond = d[0] > margin if side == "greater" else d[0] < margin
        return 0.0 if beyond else 1.0
    test: Any = stats.ttest_1samp(d, margin, alternative=side)
    return float(test.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values in the given order: the step-down procedure of Holm (1979), A simple sequentially rejective
    multiple test procedure.
    """
    from statsmodels.stats.multitest import multipletests

    if not p_values:
        return []
    adjusted: Any = multipletests(list(p_values), method="holm")[1]
    return adjusted.tolist()


def retained(adapter: Any, base: Any, source: Any, level: float = 0.95) -> Retained:
    """Retained gain rho = (adapter - base) / (source - base) with the interval of Fieller (1954), Some problems in
    interval estimation.

    Per problem u = adapter - base, w = source - base; v_u, v_w, c_uw are the (co)variances of their means, t has n - 1
    degrees of freedom. rho is inside iff (mean(u) - rho mean(w))^2 <= t^2 (v_u - 2 rho c_uw + rho^2 v_w), a quadratic
    inequality in rho. Not identifiable when mean(w)^2 <= t^2 v_w or mean(w) <= 0.
    """
    import numpy
    from scipy import stats

    u, w = _problem_differences(adapter, base), _problem_differences(source, base)
    u_mean, w_mean = float(u.mean()), float(w.mean())
    covariance = numpy.cov(u, w) / len(u)
    t_squared = float(stats.t.ppf((1 + level) / 2, len(u) - 1) ** 2)
    quadratic = w_mean**2 - t_squared * float(covariance[1, 1])
    if quadratic <= 0:
        return Retained(None, None, None, False, "the source's own gain is not distinguishable from 0")
    if w_mean <= 0:
        return Retained(None, None, None, False, "the source's own gain is not positive")
    linear = u_mean * w_mean - t_squared * float(covariance[0, 1])
    constant = u_mean**2 - t_squared * float(covariance[0, 0])
    root = math.sqrt(max(0.0, linear**2 - quadratic * constant))
    rho = u_mean / w_mean
    low, high = (linear - root) / quadratic, (linear + root) / quadratic
    return Retained(rho, min(rho, low), max(rho, high), True, "")


def non_inferior(adapter: Any, base: Any, source: Any, fraction: float = 0.97, level: float = 0.95) -> NonInferior:
    """Is at least `fraction` of the source's gain kept? The lower bound of the mean of u - fraction * w over problems,
    t with n - 1 degrees of freedom, against 0.

    Per problem u = adapter - base, w = source - base: the linear form of the ratio, defined for every gain of the
    source (Fieller 1954 inverts it).
    """
    u, w = _problem_differences(adapter, base), _problem_differences(source, base)
    low, _ = _t_interval(u - fraction * w, level)
    return NonInferior(fraction, low, low > 0 and float(w.mean()) > 0)


def pass_at_k(scores: Any, k: int) -> float:
    """Mean over problems of 1 - C(K - c_i, k) / C(K, k), c_i of K samples correct: the unbiased estimator of Chen et
    al. (2021), arXiv 2107.03374. Raises `Usage` unless 1 <= k <= K.
    """
    from scipy import stats

    (scores,) = checked(scores)
    samples = scores.shape[1]
    if not 1 <= k <= samples:
        raise Usage(
            f"pass@{k} needs k between 1 and the {samples} samples of a problem",
            "draw more samples a problem, or ask for a smaller k",
        )
    correct = scores.sum(axis=1).astype(int)
    return float((1 - stats.hypergeom.pmf(0, samples, correct, k)).mean())


def problems_needed(problems: int, half_width: float, margin: float) -> int:
    """How many problems bring the half-width seen at n `problems` to `margin`: n (h / m)^2, rounded up; widths shrink
    with sqrt(n).
    """
    return math.ceil(problems * (half_width / margin) ** 2 - 1e-9)


def checked(*arms: Any) -> list[Any]:
    """The arms as float arrays of one shape [n, K]; raises `Usage` unless n >= 2, K >= 1, and every score is 0 or 1."""
    import numpy

    try:
        arrays = [numpy.asarray(arm, dtype=float) for arm in arms]
    except (ValueError, TypeError):
        raise Usage(
            "scores are not a table of numbers", "every problem needs the same number of samples, each 0 or 1"
        ) from None
    for array in arrays:
        if array.ndim != 2 or array.shape[1] < 1:
            raise Usage(
                f"scores have shape {list(array.shape)}, not [problems, samples]",
                "one row a problem, one column a sample",
            )
        if array.shape[0] < 2:
            raise Usage(f"{array.shape[0]} problem(s) cannot be judged", "an interval over problems needs two or more")
        if not numpy.isin(array, (0, 1)).all():
            raise Usage("scores other than 0 and 1", "grade every sample as wrong (0) or right (1)")
        if array.shape != arrays[0].shape:
            raise Usage(
                f"arms differ in [problems, samples]: {list(arrays[0].shape)} and {list(array.shape)}",
                "paired arms answer the same problems with the same number of samples",
            )
    return arrays


def _problem_differences(a: Any, b: Any) -> Any:
    """[n]: difference of the problem means, by way of counts so that equal differences are equal to the last bit."""
    a, b = checked(a, b)
    return (a.sum(axis=1) - b.sum(axis=1)) / a.shape[1]


def _t_interval(values: Any, level: float) -> tuple[float, float]:
    """The t interval of the mean of `values` [n]; without width when all are equal."""
    import numpy
    from scipy import stats

    if numpy.ptp(values) == 0:
        return float(values[0]), float(values[0])
    low, high = stats.ttest_1samp(values, 0).confidence_interval(level)
    return float(low), float(high)
