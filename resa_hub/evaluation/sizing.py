"""How many problems and samples show a difference, and how long a GPU takes for them.

A power analysis: n = (M / delta)^2 (w^2 + v / K) with M = z(1 - alpha / 2) + z(power) = 2.80 for 95% and 80%. w is the
standard deviation of the true effect over problems, v the variance of the difference of two single answers to one
problem (2 E[p (1 - p)] for independent answers). On these problems w counts nothing.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from ..adapter.recorded import load_evaluations
from ..adapter.store import Adapter
from ..adapter.workspace import Workspace
from ..core.gpus import GPUS
from .benchmarks.base import Benchmark

LEVEL, POWER = 0.95, 0.80
EFFECT_SD = 0.10
"""w where nothing was measured: a mean effect of 3 points made of gains of 30 points on one problem in ten has 9."""
ASSUMED_SCORE = 0.5
"""Where no score of the base is known: the worst case."""
MAX_SAMPLES, MAX_SAMPLES_OF_ALL = 64, 1_024
"""Samples a problem that a plan tries, and with all problems of a benchmark."""

BANDWIDTH_SHARE = 0.5
"""Share of a GPU's bandwidth that decoding gets: attention and sampling take their part."""
MEMORY_SHARE, MAX_BATCH = 0.9, 256
BYTES = 2
"""A weight, a cache entry: 16-bit."""


class VarianceEstimate(msgspec.Struct, frozen=True):
    """What the size of an evaluation depends on, as shares."""

    effect: float
    """w: standard deviation of the true difference over problems."""
    answers: float
    """v: variance of the difference of two single answers to one problem."""
    origin: str
    """Measured, or assumed and how."""

    @classmethod
    def assumed(cls, score: float | None, published: str = "") -> "VarianceEstimate":
        """From a base score alone; published: the entry that tells it.

        Problem rates from a Beta with a + b = 1 (most problems are mostly solved or mostly not), so E[p (1 - p)] is
        half of score (1 - score): the K of 40 to 70 that is known for AIME24 comes out.
        """
        mean = ASSUMED_SCORE if score is None else score
        entry = f" ({published})" if published else ""
        origin = (
            f"assumed: base score {100 * mean:.1f}%{entry}, effects that differ by "
            f"{100 * EFFECT_SD:.0f} points between problems"
        )
        return cls(EFFECT_SD, mean * (1 - mean), origin)

    @classmethod
    def measured(cls, half_width: float, half_width_same: float, problems: int, samples: int) -> "VarianceEstimate":
        """From the two 95% intervals of an evaluation of n problems and K samples: their half-widths are t SE, and SE^2
        = (w^2 + v / K) / n and v / K / n.
        """
        from scipy.special import stdtrit  # quantiles of t, without the second that scipy.stats takes to import

        total = (half_width / float(stdtrit(problems - 1, 0.975))) ** 2 * problems
        within = (half_width_same / float(stdtrit(problems * (samples - 1), 0.975))) ** 2 * problems
        origin = f"measured on {problems} problems x {samples} samples"
        return cls(math.sqrt(max(0.0, total - within)), within * samples, origin)


def mde_multiplier(power: float = POWER, level: float = LEVEL) -> float:
    """Minimum detectable effect in standard errors: z(1 - alpha / 2) + z(power) = 2.80 (Bloom 1995, Minimum detectable
    effects).
    """
    from scipy.special import ndtri  # quantiles of the normal distribution

    return float(ndtri((1 + level) / 2) + ndtri(power))


def problems_needed(delta: float, variance: VarianceEstimate, samples: int) -> int:
    """Problems of K samples each that show `delta` on new problems of the kind."""
    single = variance.effect**2 + variance.answers / samples
    return max(2, math.ceil((mde_multiplier() / delta) ** 2 * single - 1e-9))


def samples_needed(delta: float, variance: VarianceEstimate, problems: int) -> int:
    """Samples a problem that show `delta` on these n problems."""
    return max(1, math.ceil((mde_multiplier() / delta) ** 2 * variance.answers / problems - 1e-9))


def samples_needed_new(delta: float, variance: VarianceEstimate, problems: int) -> int | None:
    """Samples a problem that show `delta` on new problems of the kind; None where more samples do not help, only more
    problems.
    """
    left = problems * (delta / mde_multiplier()) ** 2 - variance.effect**2
    return max(1, math.ceil(variance.answers / left - 1e-9)) if left > 0 else None


def minimum_detectable_effect(
    variance: VarianceEstimate, problems: int, samples: int, same_problems: bool = False
) -> float:
    """The smallest difference that n problems x K samples show, a share."""
    effect = 0.0 if same_problems else variance.effect**2
    return mde_multiplier() * math.sqrt((effect + variance.answers / samples) / problems)


class SampleSize(msgspec.Struct, frozen=True):
    """An evaluation of n problems x K samples; differences in points."""

    problems: int
    samples: int
    detects: float
    """Minimum detectable effect with 80% power on new problems of the kind."""
    detects_same: float
    """The same on these problems."""

    @classmethod
    def of(cls, variance: VarianceEstimate, problems: int, samples: int) -> "SampleSize":
        new = minimum_detectable_effect(variance, problems, samples)
        same = minimum_detectable_effect(variance, problems, samples, same_problems=True)
        return cls(problems, samples, 100 * new, 100 * same)


def fewest_completions(delta: float, variance: VarianceEstimate, available: int | None) -> SampleSize | None:
    """The size that shows `delta` on new problems with at least two samples, within the problems there are."""
    sizes = [(problems_needed(delta, variance, samples), samples) for samples in range(2, MAX_SAMPLES + 1)]
    fitting = [(problems, samples) for problems, samples in sizes if available is None or problems <= available]
    if fitting:
        return SampleSize.of(variance, *min(fitting, key=lambda size: size[0] * size[1]))
    samples = samples_needed_new(delta, variance, available) if available else None
    if available and samples and samples <= MAX_SAMPLES_OF_ALL:
        return SampleSize.of(variance, available, samples)
    return None


class Known(NamedTuple):
    variance: VarianceEstimate
    tokens: float
    """Mean of a completion."""
    tokens_are: str


def known_spread(
    adapters: Sequence[Adapter], benchmark: Benchmark, target: str, new_tokens: int, workspace: Workspace
) -> Known:
    """From the latest evaluation beside one of the adapters, else from the scores that are published."""
    for adapter in adapters:
        for evaluation in reversed(load_evaluations(adapter)):
            if _tells_variance(evaluation, benchmark, target):
                return _measured(evaluation, new_tokens)
    tokens, tokens_are = new_tokens, "at most: the whole budget of every completion"
    published = workspace.registry.entries["published"]
    for name in (f"{target}-10-seeds", target):
        score = published[name].value.scores.get(benchmark.name) if name in published else None
        if score is not None:
            return Known(VarianceEstimate.assumed(score / 100, name), tokens, tokens_are)
    return Known(VarianceEstimate.assumed(None), tokens, tokens_are)


def _tells_variance(evaluation: dict[str, Any], benchmark: Benchmark, target: str) -> bool:
    """Whether an evaluation was made here of this target and benchmark, with more than one sample."""
    fields = {"problems", "samples", "gain_ci", "gain_ci_same_problems", "gain", "arms"}
    same = (evaluation.get("benchmark"), evaluation.get("target")) == (benchmark.name, target)
    complete = evaluation.keys() >= fields and evaluation["gain_ci_same_problems"] is not None
    return not evaluation.get("harness") and same and complete and evaluation["samples"] > 1


def _measured(evaluation: dict[str, Any], new_tokens: int) -> Known:
    # Intervals are in points: half their width as a share.
    new, same = ((high - low) / 200 for low, high in (evaluation["gain_ci"], evaluation["gain_ci_same_problems"]))
    variance = VarianceEstimate.measured(new, same, evaluation["problems"], evaluation["samples"])
    # A smaller budget than at that time cuts answers off.
    tokens = max(1.0, min(new_tokens, max(arm["tokens"] for arm in evaluation["arms"])))
    return Known(variance, tokens, f"{tokens:.0f} a completion, measured")


def gpu_hours(config: dict[str, Any], completions: int, tokens: float) -> dict[str, float]:
    """GPU -> estimated hours of one for completions of `tokens` new tokens each, within a factor of two; GPUs whose
    memory is too small are left out.

    Decoding is bound by memory: one step gives a token to each row of a batch and reads all weights and the rows'
    key-value cache, half full on average. config: of the model.
    """
    weights, cache = BYTES * parameter_count(config), BYTES * cache_entries_per_token(config)
    hours = {}
    for gpu in GPUS:
        room = MEMORY_SHARE * gpu.memory * 1e9 - weights
        batch = min(MAX_BATCH, int(room / (cache * tokens))) if room > 0 else 0
        if batch:
            step_seconds = (weights + batch * cache * tokens / 2) / (BANDWIDTH_SHARE * gpu.bandwidth * 1e9)
            hours[gpu.name] = completions * tokens / batch * step_seconds / 3600
    return hours


def parameter_count(config: dict[str, Any]) -> int:
    """Of a decoder with gated MLPs, from its config."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    head_size = config.get("head_dim") or hidden // heads
    attention = 2 * hidden * head_size * (heads + config.get("num_key_value_heads", heads))
    embeddings = config["vocab_size"] * hidden * (1 if config.get("tie_word_embeddings") else 2)
    return config["num_hidden_layers"] * (attention + 3 * hidden * config["intermediate_size"]) + embeddings


def cache_entries_per_token(config: dict[str, Any]) -> int:
    """Numbers that one token keeps in the key-value cache."""
    heads = config["num_attention_heads"]
    head_size = config.get("head_dim") or config["hidden_size"] // heads
    return 2 * config["num_hidden_layers"] * config.get("num_key_value_heads", heads) * head_size
