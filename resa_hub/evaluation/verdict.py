"""One rule from the answers of all arms to one word.

Judged at the sampling temperature with common random numbers, never on greedy answers alone.

Margin m = max(2 points, 10% of the source's gain over base); the second part only when a source was run and its gain is
positive. Comparisons: adapter - base, and adapter - each of its controls, paired over problems. Two one-sided t tests
each: is the difference above m, is it below -m. Either side's p values are corrected over all comparisons of all
adapters of the run by Holm (1979) and held against 0.025. The first word that fits:

1. `identical to base`: no logit differs. With fewer than 8 problems nothing more is said than `underpowered`: a t test
  of so few can be certain by chance.
2. `harmful`: below -m in every comparison.
3. `source gain not identifiable`: a source was run, and its own gain over base cannot be told from 0 (the denominator
  of Fieller 1954) or is not positive.
4. `transferred`: above m in every comparison. Without a control arm nothing is `transferred`: it is `not
  distinguishable from controls`, and says why.
5. `underpowered`: the half-width of the 95% interval of adapter - base exceeds m.
6. `not distinguishable from controls`: everything else.
"""

from typing import Any, Literal

import msgspec

from ..core.errors import Usage
from . import statistics
from .statistics import Difference, Interval, NonInferior, Retained

Word = Literal[
    "identical to base",
    "harmful",
    "source gain not identifiable",
    "transferred",
    "underpowered",
    "not distinguishable from controls",
]
BASE = "base"
FEWEST_PROBLEMS = 8


class VerdictRule(msgspec.Struct, frozen=True):
    """The numbers of the rule."""

    level: float = 0.95
    """Two-sided; each side is tested at half of the rest."""
    margin_floor: float = 0.02
    """Smallest difference that counts, as a share of answers."""
    margin_fraction: float = 0.10
    """Of the source's gain, where that is larger than the floor."""
    retained_fraction: float = 0.97
    """Of the source's gain, tested for non-inferiority beside the word; it decides none."""

    @property
    def alpha(self) -> float:
        """Of one side."""
        return (1 - self.level) / 2


RULE = VerdictRule()


class AdapterArm(msgspec.Struct, frozen=True):
    """What was run for one adapter; scores are [n problems, K samples] of 0 and 1, the same problems and random numbers
    in all arms.
    """

    scores: Any
    controls: dict[str, Any] = {}
    """Name -> scores: random adapters of the same norm, and whatever else the adapter has to beat."""
    identical: bool = False
    """No logit differs from base."""


class Comparison(msgspec.Struct, frozen=True):
    """Adapter minus one other arm."""

    against: str
    value: float
    low: float
    high: float
    """low, high: uncorrected interval on new problems."""
    p_holm_above_margin: float
    p_holm_below: float
    """Of the tests that the difference is above m, and below -m."""
    bound_low_holm: float
    bound_high_holm: float
    """Bounds at the level Holm tested them at: bound_low_holm > m exactly when p_holm_above_margin < 0.025, and the
    mirror image.
    """


class Verdict(msgspec.Struct, frozen=True):
    word: Word
    sentence: str
    margin: float
    gain: Difference
    """adapter - base."""
    source_gain: Difference | None
    """source - base."""
    retained: Retained | None
    comparisons: tuple[Comparison, ...]
    """Base first."""
    base: Interval
    adapter: Interval
    source: Interval | None
    base_over_source: float | None
    adapter_over_source: float | None
    """Ratios of scores, to be read together: a high adapter/source means little beside a high base/source. None when
    the source scores 0.
    """
    non_inferior: NonInferior | None = None
    """Whether 97% of the source's gain is kept, the share that is claimed of the published adapters; None without an
    identifiable gain of the source.
    """


def judge(base: Any, source: Any | None, arm: AdapterArm, settings: VerdictRule = RULE) -> Verdict:
    """The verdict on one adapter; `source` is None where no source was run. Raises `Usage` on scores that cannot be
    paired.
    """
    return judge_all(base, source, {"adapter": arm}, settings)["adapter"]


def judge_all(
    base: Any, source: Any | None, adapters: dict[str, AdapterArm], settings: VerdictRule = RULE
) -> dict[str, Verdict]:
    """A verdict for each adapter of one evaluation run, corrected over the comparisons of all of them."""
    source_gain = None if source is None else statistics.difference(source, base, settings.level)
    margin = (
        settings.margin_floor
        if source_gain is None
        else max(settings.margin_floor, settings.margin_fraction * source_gain.value)
    )
    pairs = [
        (name, against, arm.scores, scores)
        for name, arm in adapters.items()
        for against, scores in _opponents(name, arm, base).items()
    ]
    comparisons = _compare(pairs, margin, settings)
    return {
        name: _verdict(
            base,
            source,
            source_gain,
            arm,
            tuple(c for (owner, *_), c in zip(pairs, comparisons, strict=True) if owner == name),
            margin,
            settings,
        )
        for name, arm in adapters.items()
    }


def verdict_fields(verdict: Verdict) -> dict[str, Any]:
    """A verdict as documents tell it: gains and the margin in points, retained as a ratio, comparisons as shares."""
    gain, source, kept = verdict.gain, verdict.source_gain, verdict.retained
    return {
        "verdict": verdict.word,
        "sentence": verdict.sentence,
        "gain": 100 * gain.value,
        "gain_ci": (100 * gain.low, 100 * gain.high),
        "gain_ci_same_problems": None
        if gain.low_same is None or gain.high_same is None
        else (100 * gain.low_same, 100 * gain.high_same),
        "p": gain.p,
        "retained": kept.value if kept else None,
        "retained_ci": (kept.low, kept.high) if kept and kept.low is not None and kept.high is not None else None,
        "source_gain": 100 * source.value if source else None,
        "source_gain_ci": (100 * source.low, 100 * source.high) if source else None,
        "base_over_source": verdict.base_over_source,
        "adapter_over_source": verdict.adapter_over_source,
        "margin": 100 * verdict.margin,
        "comparisons": [msgspec.to_builtins(comparison) for comparison in verdict.comparisons],
    }


def _opponents(name: str, arm: AdapterArm, base: Any) -> dict[str, Any]:
    if BASE in arm.controls:
        raise Usage(f"{name}: a control is named {BASE!r}", "that name belongs to the base arm")
    return {BASE: base, **arm.controls}


def _compare(pairs: list[tuple[str, str, Any, Any]], margin: float, settings: VerdictRule) -> list[Comparison]:
    """One comparison for each (adapter, against, a, b), as one Holm family a side."""
    above = [statistics.one_sided(a, b, margin, "greater") for *_, a, b in pairs]
    below = [statistics.one_sided(a, b, -margin, "less") for *_, a, b in pairs]
    above_holm, below_holm = statistics.holm(above), statistics.holm(below)
    found = []
    for (_, against, a, b), p_above, p_below, low_steps, high_steps in zip(
        pairs,
        above_holm,
        below_holm,
        _holm_steps(above, above_holm, settings),
        _holm_steps(below, below_holm, settings),
        strict=True,
    ):
        plain = statistics.paired_interval(a, b, settings.level)
        low = statistics.paired_interval(a, b, 1 - 2 * settings.alpha / low_steps).low
        high = statistics.paired_interval(a, b, 1 - 2 * settings.alpha / high_steps).high
        found.append(Comparison(against, plain.value, plain.low, plain.high, p_above, p_below, low, high))
    return found


def _holm_steps(p_values: list[float], adjusted: list[float], settings: VerdictRule) -> list[int]:
    """What alpha is divided by for each comparison: the tests still open at its step, k - rank + 1, and at the step
    where Holm stops for all that remain.
    """
    rejected = sum(p < settings.alpha for p in adjusted)
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    steps = [0] * len(order)
    for rank, place in enumerate(order):
        steps[place] = len(order) - min(rank, rejected)
    return steps


def _verdict(
    base: Any,
    source: Any | None,
    source_gain: Difference | None,
    arm: AdapterArm,
    comparisons: tuple[Comparison, ...],
    margin: float,
    settings: VerdictRule,
) -> Verdict:
    gain = statistics.difference(arm.scores, base, settings.level)
    kept = None if source is None else statistics.retained(arm.scores, base, source, settings.level)
    base_score, adapter_score = statistics.average(base, settings.level), statistics.average(arm.scores, settings.level)
    source_score = None if source is None else statistics.average(source, settings.level)
    known = source is not None and kept is not None and kept.identifiable
    whole = (
        statistics.non_inferior(arm.scores, base, source, settings.retained_fraction, settings.level) if known else None
    )
    word = _word(arm, gain, kept, comparisons, margin, settings.alpha)
    return Verdict(
        word=word,
        sentence=_sentence(word, gain, source_gain, kept, whole, comparisons, margin, len(arm.scores))
        + _few(word, statistics.carrying(arm.scores, base)),
        margin=margin,
        gain=gain,
        source_gain=source_gain,
        retained=kept,
        comparisons=comparisons,
        base=base_score,
        adapter=adapter_score,
        source=source_score,
        base_over_source=_ratio(base_score, source_score),
        adapter_over_source=_ratio(adapter_score, source_score),
        non_inferior=whole,
    )


def _word(
    arm: AdapterArm,
    gain: Difference,
    kept: Retained | None,
    comparisons: tuple[Comparison, ...],
    margin: float,
    alpha: float,
) -> Word:
    """The rule of this module's docstring, in its order."""
    if arm.identical:
        return "identical to base"
    if len(arm.scores) < FEWEST_PROBLEMS:
        return "underpowered"
    if all(c.p_holm_below < alpha for c in comparisons):
        return "harmful"
    if kept is not None and not kept.identifiable:
        return "source gain not identifiable"
    if not arm.controls:
        return "not distinguishable from controls"
    if all(c.p_holm_above_margin < alpha for c in comparisons):
        return "transferred"
    if Interval(gain.value, gain.low, gain.high).half_width > margin:
        return "underpowered"
    return "not distinguishable from controls"


def _sentence(
    word: Word,
    gain: Difference,
    source_gain: Difference | None,
    kept: Retained | None,
    whole: NonInferior | None,
    comparisons: tuple[Comparison, ...],
    margin: float,
    problems: int,
) -> str:
    """Plain English, numbers in points; brackets hold 95% intervals on new problems unless settings say another
    level.
    """
    change = f"{_points(gain.value)} points over base {_bracket(gain)}"
    controls = [c for c in comparisons if c.against != BASE]
    others = f"base and {_controls(len(controls))}" if controls else "base"
    if word == "identical to base":
        return "The adapter changes no logit of the base model, so there is nothing to judge."
    if word == "harmful":
        return f"{change}: worse than {others} by more than the margin of {margin * 100:.1f} points."
    if word == "source gain not identifiable" and kept is not None and source_gain is not None:
        return (
            f"No gain to transfer was seen: {kept.reason} ({_points(source_gain.value)} points "
            f"{_bracket(source_gain)}). The adapter: {change}."
        )
    if word == "transferred":
        return (
            f"{change}: better than {others} by more than the margin of {margin * 100:.1f} points.{_kept(kept, whole)}"
        )
    if word == "underpowered" and problems < FEWEST_PROBLEMS:
        return f"{change}: {problems} problems are too few to judge, ask for {FEWEST_PROBLEMS} or many more."
    if word == "underpowered":
        half_width = Interval(gain.value, gain.low, gain.high).half_width
        needed = statistics.problems_needed(problems, half_width, margin)
        return (
            f"{change}: the interval reaches {half_width * 100:.1f} points to a side, wider than the margin of "
            f"{margin * 100:.1f}. "
            f"About {needed:,} problems in place of {problems:,} would narrow it to the margin."
        )
    if not controls:
        return (
            f"{change}, but no control arm was run, so a transfer cannot be told from any other change of the weights."
        )
    nearest = min(comparisons, key=lambda c: c.bound_low_holm)
    return (
        f"{change}: not shown to be better than {nearest.against} by more than the margin of {margin * 100:.1f} points "
        f"(corrected bounds {_points(nearest.bound_low_holm)} to {_points(nearest.bound_high_holm)})."
    )


def _controls(count: int) -> str:
    return "its control" if count == 1 else f"each of {count} controls"


def _kept(kept: Retained | None, whole: NonInferior | None) -> str:
    if kept is None or whole is None or kept.value is None or kept.low is None or kept.high is None:
        return ""
    shown = "shown" if whole.holds else "not shown"
    return (
        f" It retains {kept.value:.0%} [{kept.low:.0%}, {kept.high:.0%}] of the source's gain; that it keeps "
        f"{whole.fraction:.0%} of it is {shown}."
    )


def _few(word: Word, carrying: float) -> str:
    if word == "identical to base" or carrying >= statistics.FEW_CARRY:
        return ""
    return (
        f" About {max(1, round(carrying))} problems carry the difference: at so few the interval covers about "
        "90%, and misses to the side of no difference."
    )


def _bracket(gain: Difference) -> str:
    return f"[{_points(gain.low)}, {_points(gain.high)}]"


def _points(share: float) -> str:
    return f"{round(share * 100, 1) + 0.0:+.1f}"


def _ratio(score: Interval, source: Interval | None) -> float | None:
    return None if source is None or source.value == 0 else score.value / source.value
