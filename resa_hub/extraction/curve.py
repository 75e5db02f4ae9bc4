"""Do the adapters of a sweep differ at all, or is the curve over layers what noise draws?"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class LayerDifference(NamedTuple):
    adapters: float
    """p of the hypothesis that all adapters answer alike on these problems: differences hold for these adapters, not
    for their layers.
    """
    layers: float | None
    """p of the hypothesis that layers do not matter, against the spread of training seeds inside a layer; None for one
    seed a layer.
    """


def differ(
    scores: Sequence[Sequence[Sequence[Sequence[int]]]], seed: int = 0, resamples: int = 4_999
) -> LayerDifference | None:
    """scores: [layers][seeds][problems][samples] of 0 and 1, the same problems everywhere; None for a single layer.

    adapters: permutation of the adapters inside each problem, statistic = variance of the adapters' means (a randomised
    block design; Edgington and Onghena, Randomization Tests, 2007). layers: one-way analysis of variance of the means
    of the seeds.
    """
    import numpy
    from scipy import stats

    means = numpy.array(scores, dtype=float).mean(-1)  # [layers, seeds, problems]
    if means.shape[0] < 2:
        return None
    if (means == means[:1, :1]).all():
        return LayerDifference(1.0, 1.0 if means.shape[1] > 1 else None)
    each = means.reshape(-1, means.shape[-1])
    result = stats.permutation_test(
        tuple(each),
        lambda *arms, axis: numpy.stack([arm.mean(axis) for arm in arms]).var(0),
        permutation_type="samples",
        vectorized=True,
        alternative="greater",
        n_resamples=resamples,
        batch=50,
        rng=seed,
    )
    by_seed = means.mean(-1)
    if means.shape[1] < 2:
        return LayerDifference(float(result.pvalue), None)
    constant = bool((by_seed == by_seed[:, :1]).all())
    return LayerDifference(float(result.pvalue), 0.0 if constant else float(stats.f_oneway(*by_seed).pvalue))


class Point(NamedTuple):
    """One layer of the curve; gains over base in points."""

    layer: int
    gain: float
    low: float
    high: float
    controls: tuple[float, ...]


def draw(points: Sequence[Point], source: float | None, title: str, path: Path) -> None:
    """The curve with its 95% intervals, the band of the random controls, and the source's own gain, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    layers = sorted({point.layer for point in points})
    figure, axes = pyplot.subplots(figsize=(max(5.0, 1.5 + 0.35 * len(layers)), 3.4), dpi=150, layout="constrained")
    band = [[c for p in points if p.layer == layer for c in p.controls] for layer in layers]
    if all(band):
        low, high = [min(b) for b in band], [max(b) for b in band]
        axes.fill_between(
            layers, low, high, color="0.85", label="random controls", step="mid" if len(layers) > 1 else None
        )
        axes.plot(layers, [sum(b) / len(b) for b in band], color="0.6", lw=1)
    axes.axhline(0, color="0.3", lw=0.8)
    if source is not None:
        axes.axhline(source, color="tab:green", lw=1, ls="--", label="source")
    gains = [p.gain for p in points]
    errors = [[p.gain - p.low for p in points], [p.high - p.gain for p in points]]
    axes.errorbar(
        [p.layer for p in points], gains, yerr=errors, fmt="o", ms=4, capsize=3, color="tab:blue", label="adapter, 95%"
    )
    axes.set(xlabel="layer of the hookpoint", ylabel="gain over base, points", title=title, xticks=layers)
    axes.legend(fontsize=7, frameon=False)
    figure.savefig(path)
    pyplot.close(figure)
