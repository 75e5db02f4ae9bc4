"""Do the adapters of a sweep differ at all, or is the curve over layers what noise draws?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..adapter.results import SweepPoint

SPREAD = 0.6
"""Of the distance between two layers, over which the seeds of a layer are drawn."""


class LayerDifference(NamedTuple):
    """p values of the hypotheses that nothing differs."""

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
    """Test whether the adapters of a sweep, and its layers, differ by more than chance; None for a single layer.

    scores: [layers][seeds][problems][samples] of 0 and 1, the same problems everywhere.

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


def draw(points: Sequence[SweepPoint], source: float | None, title: str, path: Path) -> None:
    """The curve with its 95% intervals, the band of the random controls, and the source's own gain, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    layers = sorted({point.layer for point in points})
    figure, axes = pyplot.subplots(figsize=(max(5.0, 1.5 + 0.35 * len(layers)), 3.4), dpi=300, layout="constrained")
    _band(axes, points, layers)
    axes.axhline(0, color="0.3", lw=0.8)
    if source is not None:
        axes.axhline(source, color="tab:green", lw=1, ls="--", label="source")
    gains = [p.gain for p in points]
    errors = [[p.gain - p.gain_ci[0] for p in points], [p.gain_ci[1] - p.gain for p in points]]
    style: dict[str, Any] = {"fmt": "o", "ms": 4, "capsize": 2, "lw": 1.2, "color": "tab:blue"}
    axes.errorbar(_places(points), gains, yerr=errors, label="adapter, 95%", **style)
    axes.set_title(title, fontsize=9, loc="left", parse_math=False)
    axes.set(xlabel="layer of the hookpoint", ylabel="gain over base, points", xticks=layers)
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.legend(fontsize=7, frameon=False, loc="outside lower center", ncols=3)
    figure.savefig(path)
    pyplot.close(figure)


def _places(points: Sequence[SweepPoint]) -> list[float]:
    """Of each point on the axis of layers: the seeds of a layer stand beside each other."""
    places = []
    for p in points:
        beside = [other for other in points if other.layer == p.layer]
        places.append(p.layer + SPREAD * ((beside.index(p) + 1) / (len(beside) + 1) - 0.5))
    return places


def _band(axes: Any, points: Sequence[SweepPoint], layers: Sequence[int]) -> None:
    """Where the random controls of each layer lie; nothing unless every layer has controls."""
    controls = [[c for p in points if p.layer == layer for c in p.controls] for layer in layers]
    if not all(controls):
        return
    lowest = [min(of_layer) for of_layer in controls]
    heights = [max(of_layer) - low for of_layer, low in zip(controls, lowest, strict=True)]
    axes.bar(layers, heights, bottom=lowest, width=0.9, color="0.87", edgecolor="0.87", label="random controls")
