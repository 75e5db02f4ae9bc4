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

from typing import Any, Literal, NamedTuple

import msgspec

from ..adapter.results import Comparison
from ..core.errors import Usage
from . import statistics
from .comparisons import ArmPair, compare
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
MIN_PROBLEMS = 8


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
# A cached analysis is found by this version. Raise it whenever equal grades may lead to another word, number or
# sentence, or a field of `Verdict` or `Analysis` changes: here, in comparisons.py, statistics.py or analysis.py.
RULE_VERSION = 1


class AdapterArm(msgspec.Struct, frozen=True):
    """What was run for one adapter; scores are [n problems, K samples] of 0 and 1, the same problems and random numbers
    in all arms.
    """

    scores: Any
    controls: dict[str, Any] = {}
    """Name -> scores: random adapters of the same norm, and whatever else the adapter has to beat."""
    identical: bool = False
    """No logit differs from base."""


class Verdict(msgspec.Struct, frozen=True):
    """The word on one adapter with the numbers that led to it, all as shares."""

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


def judge(base: Any, source: Any | None, arm: AdapterArm, rule: VerdictRule = RULE) -> Verdict:
    """The verdict on one adapter; `source` is None where no source was run. Raises `Usage` on scores that cannot be
    paired.
    """
    return judge_all(base, source, {"adapter": arm}, rule)["adapter"]


def judge_all(
    base: Any, source: Any | None, adapters: dict[str, AdapterArm], rule: VerdictRule = RULE
) -> dict[str, Verdict]:
    """A verdict for each adapter of one evaluation run, corrected over the comparisons of all of them."""
    source_gain, margin = None, rule.margin_floor
    if source is not None:
        source_gain = statistics.difference(source, base, rule.level)
        margin = max(rule.margin_floor, rule.margin_fraction * source_gain.value)
    reference = _Reference(base, source, source_gain, margin)
    pairs = [pair for name, arm in adapters.items() for pair in _pairs(name, arm, base)]
    compared = list(zip(pairs, compare(pairs, margin, rule.level), strict=True))
    return {
        name: _verdict(reference, arm, tuple(c for pair, c in compared if pair.adapter == name), rule)
        for name, arm in adapters.items()
    }


def verdict_fields(verdict: Verdict) -> dict[str, Any]:
    """A verdict as documents hold it: gains and the margin in points, retained as a ratio, comparisons as shares."""
    gain, source_gain, retained = verdict.gain, verdict.source_gain, verdict.retained
    same_problems = retained_ci = None
    if gain.low_same is not None and gain.high_same is not None:
        same_problems = (100 * gain.low_same, 100 * gain.high_same)
    if retained and retained.low is not None and retained.high is not None:
        retained_ci = (retained.low, retained.high)
    return {
        "verdict": verdict.word,
        "sentence": verdict.sentence,
        "gain": 100 * gain.value,
        "gain_ci": (100 * gain.low, 100 * gain.high),
        "gain_ci_same_problems": same_problems,
        "p": gain.p,
        "retained": retained.value if retained else None,
        "retained_ci": retained_ci,
        "source_gain": 100 * source_gain.value if source_gain else None,
        "source_gain_ci": (100 * source_gain.low, 100 * source_gain.high) if source_gain else None,
        "base_over_source": verdict.base_over_source,
        "adapter_over_source": verdict.adapter_over_source,
        "margin": 100 * verdict.margin,
        "comparisons": list(verdict.comparisons),
    }


class _Reference(NamedTuple):
    """What all adapters of a run are judged by."""

    base: Any
    source: Any | None
    source_gain: Difference | None
    margin: float


def _pairs(name: str, arm: AdapterArm, base: Any) -> list[ArmPair]:
    if BASE in arm.controls:
        raise Usage(f"{name}: a control is named {BASE!r}", "that name belongs to the base arm")
    others = {BASE: base, **arm.controls}
    return [ArmPair(name, against, arm.scores, scores) for against, scores in others.items()]


def _verdict(reference: _Reference, arm: AdapterArm, comparisons: tuple[Comparison, ...], rule: VerdictRule) -> Verdict:
    base, source, level = reference.base, reference.source, rule.level
    gain = statistics.difference(arm.scores, base, level)
    base_score, adapter_score = statistics.average(base, level), statistics.average(arm.scores, level)
    source_score = retained = non_inferior = None
    if source is not None:
        source_score = statistics.average(source, level)
        retained = statistics.retained(arm.scores, base, source, level)
        if retained.identifiable:
            non_inferior = statistics.non_inferior(arm.scores, base, source, rule.retained_fraction, level)
    verdict = Verdict(
        word=_word(arm, gain, retained, comparisons, reference.margin, rule.alpha),
        sentence="",
        margin=reference.margin,
        gain=gain,
        source_gain=reference.source_gain,
        retained=retained,
        comparisons=comparisons,
        base=base_score,
        adapter=adapter_score,
        source=source_score,
        base_over_source=_ratio(base_score, source_score),
        adapter_over_source=_ratio(adapter_score, source_score),
        non_inferior=non_inferior,
    )
    warning = _few(verdict.word, statistics.participation_ratio(arm.scores, base))
    return msgspec.structs.replace(verdict, sentence=_sentence(verdict, len(arm.scores)) + warning)


def _word(
    arm: AdapterArm,
    gain: Difference,
    retained: Retained | None,
    comparisons: tuple[Comparison, ...],
    margin: float,
    alpha: float,
) -> Word:
    """The rule of this module's docstring, in its order."""
    if arm.identical:
        return "identical to base"
    if len(arm.scores) < MIN_PROBLEMS:
        return "underpowered"
    if all(c.p_holm_below < alpha for c in comparisons):
        return "harmful"
    if retained is not None and not retained.identifiable:
        return "source gain not identifiable"
    if not arm.controls:
        return "not distinguishable from controls"
    if all(c.p_holm_above_margin < alpha for c in comparisons):
        return "transferred"
    if gain.half_width > margin:
        return "underpowered"
    return "not distinguishable from controls"


def _sentence(verdict: Verdict, problems: int) -> str:
    """The verdict in plain English, numbers in points; brackets hold intervals of the rule's level on new problems."""
    word, gain, source_gain, retained = verdict.word, verdict.gain, verdict.source_gain, verdict.retained
    change = f"{_points(gain.value)} points over base {_bracket(gain)}"
    margin = f"the margin of {verdict.margin * 100:.1f}"
    controls = len([c for c in verdict.comparisons if c.against != BASE])
    others = f"base and {_controls(controls)}" if controls else "base"
    if word == "identical to base":
        return "The adapter changes no logit of the base model, so there is nothing to judge."
    if word == "harmful":
        return f"{change}: worse than {others} by more than {margin} points."
    if word == "source gain not identifiable" and retained is not None and source_gain is not None:
        source_change = f"{_points(source_gain.value)} points {_bracket(source_gain)}"
        return f"No gain to transfer was seen: {retained.reason} ({source_change}). The adapter: {change}."
    if word == "transferred":
        return f"{change}: better than {others} by more than {margin} points.{_share_kept(verdict)}"
    if word == "underpowered" and problems < MIN_PROBLEMS:
        return f"{change}: {problems} problems are too few to judge, ask for {MIN_PROBLEMS} or many more."
    if word == "underpowered":
        needed = statistics.problems_needed(problems, gain.half_width, verdict.margin)
        return (
            f"{change}: the interval reaches {gain.half_width * 100:.1f} points to a side, wider than {margin}. "
            f"About {needed:,} problems in place of {problems:,} would narrow it to the margin."
        )
    if not controls:
        return (
            f"{change}, but no control arm was run, so a transfer cannot be told from any other change of the weights."
        )
    nearest = min(verdict.comparisons, key=lambda c: c.bound_low_holm)
    return (
        f"{change}: not shown to be better than {nearest.against} by more than {margin} points "
        f"(corrected bounds {_points(nearest.bound_low_holm)} to {_points(nearest.bound_high_holm)})."
    )


def _controls(count: int) -> str:
    return "its control" if count == 1 else f"each of {count} controls"


def _share_kept(verdict: Verdict) -> str:
    retained, non_inferior = verdict.retained, verdict.non_inferior
    if non_inferior is None or retained is None or None in (retained.value, retained.low, retained.high):
        return ""
    shown = "shown" if non_inferior.holds else "not shown"
    return (
        f" It retains {retained.value:.0%} [{retained.low:.0%}, {retained.high:.0%}] of the source's gain; "
        f"that it keeps {non_inferior.fraction:.0%} of it is {shown}."
    )


def _few(word: Word, problems: float) -> str:
    """A warning where few problems carry the difference."""
    if word == "identical to base" or problems >= statistics.LOW_PARTICIPATION:
        return ""
    return (
        f" About {max(1, round(problems))} problems carry the difference: at so few the interval covers about "
        "90%, and misses to the side of no difference."
    )


def _bracket(gain: Difference) -> str:
    return f"[{_points(gain.low)}, {_points(gain.high)}]"


def _points(share: float) -> str:
    # Adding 0.0 makes a rounded -0.0 positive.
    return f"{round(share * 100, 1) + 0.0:+.1f}"


def _ratio(score: Interval, source: Interval | None) -> float | None:
    return None if source is None or source.value == 0 else score.value / source.value
