"""Every word of the verdict is reached, Holm decides as displayed, and the rule errs no more often than it says."""

import gc
import math
import re
import typing
import warnings

import msgspec
import numpy
import pytest

from resa_hub.core.errors import Usage
from resa_hub.evaluation import statistics
from resa_hub.evaluation.verdict import MIN_PROBLEMS, AdapterArm, Verdict, Word, judge, judge_all


@pytest.fixture(autouse=True)
def warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture(autouse=True)
def no_collection(monkeypatch: pytest.MonkeyPatch):
    """`multipletests` collects garbage at each call, which takes 70 ms once many modules are loaded."""
    monkeypatch.setattr(gc, "collect", lambda *_: 0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch):
    """For simulations: without the sign-flip p, which decides no word."""
    monkeypatch.setattr(statistics, "sign_flip_p", lambda a, b: 1.0)


def answers(*rates: numpy.ndarray, samples: int = 4, seed: int = 0) -> list[numpy.ndarray]:
    """Scores of one arm for each [n] of true rates, with common random numbers."""
    noise = numpy.random.default_rng(seed).random((len(rates[0]), samples))
    return [(noise < rate[:, None]).astype(float) for rate in rates]


def gained(rate: numpy.ndarray, share: float) -> numpy.ndarray:
    """`share` of the distance to 1, or to 0 when negative: the mirror image."""
    return rate + (1 - rate) * share if share >= 0 else rate * (1 + share)


def arms(
    adapter: float, source: float, *controls: float, problems: int = 200, seed: int = 0
) -> tuple[numpy.ndarray, numpy.ndarray, AdapterArm]:
    """base, source and the adapter's arm with controls; each number is a share as in `gained`, so a gain of half that
    size on average.
    """
    rate = numpy.random.default_rng(seed + 10_000).random(problems)
    base, source_scores, scores, *others = answers(
        rate, *(gained(rate, share) for share in (source, adapter, *controls)), seed=seed
    )
    return base, source_scores, AdapterArm(scores, {f"random-{i}": other for i, other in enumerate(others)})


def mirrored(base: numpy.ndarray, arm: AdapterArm) -> tuple[numpy.ndarray, AdapterArm]:
    return 1 - base, AdapterArm(1 - arm.scores, {name: 1 - scores for name, scores in arm.controls.items()})


def numbers_of(verdict: Verdict) -> list[float]:
    """Every number of a verdict, by its form in JSON."""

    def walk(value):
        if isinstance(value, float):
            yield value
        elif isinstance(value, (dict, list, tuple)):
            for part in value.values() if isinstance(value, dict) else value:
                yield from walk(part)

    return list(walk(msgspec.to_builtins(verdict)))


def whole(verdict: Verdict) -> Verdict:
    """The verdict, after checks that hold for every one: finite, in JSON and back, no NaN in words."""
    assert all(map(math.isfinite, numbers_of(verdict)))
    assert msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict) == verdict
    assert verdict.word in typing.get_args(Word)
    assert not re.search(r"\b(nan|inf|none)\b", verdict.sentence.lower())
    assert verdict.sentence.endswith(".")
    return verdict


# The words


def test_transferred():
    """A true gain of 40 points where the source gains 50, the case of the embedded family."""
    base, source, arm = arms(0.8, 0.98, 0.0, -0.05, -0.1)
    verdict = whole(judge(base, source, arm))
    assert verdict.word == "transferred"
    assert verdict.source_gain is not None and verdict.retained is not None
    assert verdict.retained.low is not None and verdict.retained.high is not None
    assert verdict.margin == pytest.approx(0.1 * verdict.source_gain.value)
    assert verdict.gain.value == pytest.approx(0.4, abs=0.05)
    assert verdict.retained.low < 0.8 / 0.98 < verdict.retained.high
    assert [c.against for c in verdict.comparisons] == ["base", "random-0", "random-1", "random-2"]
    assert all(verdict.margin < c.bound_low_holm <= c.low for c in verdict.comparisons)
    assert verdict.base_over_source == pytest.approx(base.mean() / source.mean())
    assert verdict.adapter_over_source == pytest.approx(arm.scores.mean() / source.mean())
    assert "better than base and each of 3 controls" in verdict.sentence and "of the source's gain" in verdict.sentence


def test_harmful_is_the_mirror_image_of_transferred():
    base, _, arm = arms(0.8, 0.98, 0.0, -0.05)
    up, down = whole(judge(base, None, arm)), whole(judge(*_order(mirrored(base, arm))))
    assert (up.word, down.word) == ("transferred", "harmful")
    for c, mirror in zip(up.comparisons, down.comparisons, strict=True):
        assert (c.value, c.bound_low_holm, c.bound_high_holm) == pytest.approx(
            (-mirror.value, -mirror.bound_high_holm, -mirror.bound_low_holm)
        )
        assert (c.p_holm_above_margin, c.p_holm_below) == pytest.approx(
            (mirror.p_holm_below, mirror.p_holm_above_margin)
        )


def _order(mirror: tuple[numpy.ndarray, AdapterArm]) -> tuple[numpy.ndarray, None, AdapterArm]:
    return mirror[0], None, mirror[1]


def test_harmful_comes_before_the_source():
    base, source, arm = arms(-0.8, 0.0, 0.0)
    assert whole(judge(base, source, arm)).word == "harmful"


def test_identical_comes_before_everything():
    base, source, _ = arms(0.0, 0.0)
    arm = AdapterArm(base, {"random": 1 - base}, identical=True)
    assert whole(judge(base, source, arm)).word == "identical to base"


@pytest.mark.parametrize(("source", "reason"), [(0.0, "not distinguishable from 0"), (-0.5, "not positive")])
def test_source_gain_not_identifiable(source: float, reason: str):
    base, source_scores, arm = arms(0.8, source, 0.0)
    verdict = whole(judge(base, source_scores, arm))
    assert verdict.word == "source gain not identifiable"
    assert reason in verdict.sentence
    assert verdict.margin == 0.02


def test_without_a_source_nothing_of_it_is_reported():
    base, _, arm = arms(0.8, 0.9, 0.0)
    verdict = whole(judge(base, None, arm))
    assert verdict.word == "transferred"
    assert (
        verdict.source,
        verdict.source_gain,
        verdict.retained,
        verdict.base_over_source,
        verdict.adapter_over_source,
    ) == (None,) * 5


def test_underpowered_says_how_many_problems():
    base, source, arm = arms(0.1, 0.9, 0.0, problems=20)
    verdict = whole(judge(base, source, arm))
    assert verdict.word == "underpowered"
    half_width = max(verdict.gain.high - verdict.gain.value, verdict.gain.value - verdict.gain.low)
    assert f"About {math.ceil(20 * (half_width / verdict.margin) ** 2):,} problems in place of 20" in verdict.sentence


def test_not_distinguishable_from_controls_that_gain_as_much():
    base, source, arm = arms(0.5, 0.98, 0.5, 0.0, problems=1_000)
    verdict = whole(judge(base, source, arm))
    assert verdict.word == "not distinguishable from controls"
    assert "not shown to be better than random-0" in verdict.sentence


def test_without_controls_nothing_is_transferred():
    base, source, arm = arms(0.8, 0.98)
    verdict = whole(judge(base, source, arm))
    assert verdict.comparisons[0].bound_low_holm > verdict.margin
    assert verdict.word == "not distinguishable from controls"
    assert "no control arm was run" in verdict.sentence


def test_few_problems_that_carry_everything_are_named():
    base = numpy.zeros((40, 4))
    adapter, source = base.copy(), base.copy()
    adapter[:3], source[:20] = 1, 1
    verdict = whole(judge(base, source, AdapterArm(adapter, {"random": base})))
    assert "About 3 problems carry the difference" in verdict.sentence
    assert "carry" not in whole(judge(*arms(0.8, 0.98, 0.0))).sentence


def test_non_inferiority_is_stated_and_decides_nothing():
    base, source, arm = arms(0.98, 0.9, 0.0)
    verdict, less = whole(judge(base, source, arm)), whole(judge(*arms(0.7, 0.9, 0.0)))
    assert verdict.non_inferior and verdict.non_inferior.holds and "keeps 97% of it is shown" in verdict.sentence
    assert (
        less.non_inferior
        and not less.non_inferior.holds
        and less.word == "transferred"
        and "is not shown" in less.sentence
    )
    assert judge(base, None, arm).non_inferior is None


# Holm, over the whole run


def test_the_displayed_bounds_decide_as_holm_does():
    base, source, _ = arms(0.0, 0.9, problems=60)
    run = {}
    for i, share in enumerate((0.05, 0.15, 0.2, 0.25, 0.4, -0.1, -0.4)):
        _, _, arm = arms(share, 0.9, 0.0, -0.1, problems=60)
        run[f"adapter-{i}"] = arm
    verdicts = judge_all(base, source, run)
    comparisons = [c for verdict in verdicts.values() for c in verdict.comparisons]
    margin = verdicts["adapter-0"].margin
    above = [c.bound_low_holm > margin for c in comparisons]
    assert 0 < sum(above) < len(above)
    assert above == [c.p_holm_above_margin < 0.025 for c in comparisons]
    assert [c.bound_high_holm < -margin for c in comparisons] == [c.p_holm_below < 0.025 for c in comparisons]


def test_more_adapters_make_the_correction_stronger():
    base, source, arm = arms(0.25, 0.9, 0.0, problems=60)
    _, _, null = arms(0.0, 0.9, 0.0, problems=60)
    alone = judge(base, source, arm).comparisons[0]
    crowded = judge_all(base, source, {"good": arm, **{f"null-{i}": null for i in range(10)}})["good"].comparisons[0]
    assert (crowded.value, crowded.low, crowded.high) == (alone.value, alone.low, alone.high)
    assert crowded.bound_low_holm < alone.bound_low_holm
    assert crowded.p_holm_above_margin > alone.p_holm_above_margin


def test_no_adapter_no_verdict():
    base, source, _ = arms(0.5, 0.9)
    assert judge_all(base, source, {}) == {}


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_problems_does_not_matter(seed: int):
    base, source, arm = arms(0.1 * seed, 0.9, 0.0, 0.1, problems=40, seed=seed)
    shuffled = numpy.random.default_rng(seed).permutation(len(base))
    moved = AdapterArm(arm.scores[shuffled], {name: scores[shuffled] for name, scores in arm.controls.items()})
    one, other = judge(base, source, arm), judge(base[shuffled], source[shuffled], moved)
    assert one.word == other.word
    numbers = [numpy.array(numbers_of(msgspec.structs.replace(v, gain=None, source_gain=None))) for v in (one, other)]
    assert numbers[0] == pytest.approx(numbers[1], abs=1e-9)


# Degenerate input


@pytest.mark.parametrize("samples", [1, 4])
@pytest.mark.parametrize("problems", [2, 10])
@pytest.mark.parametrize("levels", [(0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 1, 0), (1, 0, 0, 1), (0, 1, 0, 1), (1, 0, 1, 0)])
def test_all_right_and_all_wrong(levels: tuple[int, int, int, int], problems: int, samples: int):
    base, source, adapter, control = (numpy.full((problems, samples), float(level)) for level in levels)
    verdict = whole(judge(base, source, AdapterArm(adapter, {"random": control})))
    expected = {(0, 1, 1, 0): "transferred", (1, 0, 0, 1): "harmful", (0, 1, 0, 1): "not distinguishable from controls"}
    assert verdict.word == (
        "underpowered" if problems < MIN_PROBLEMS else expected.get(levels, "source gain not identifiable")
    )


def test_two_problems_are_underpowered():
    base, source, adapter = numpy.array([[0, 0], [0, 0]]), numpy.array([[1, 1], [1, 1]]), numpy.array([[1, 1], [0, 1]])
    assert whole(judge(base, source, AdapterArm(adapter, {"random": base}))).word == "underpowered"


@pytest.mark.parametrize(
    ("base", "source", "adapter", "control"),
    [
        ((1, 4), (1, 4), (1, 4), (1, 4)),
        ((3, 4), (3, 4), (2, 4), (3, 4)),
        ((3, 4), (3, 4), (3, 5), (3, 4)),
        ((3, 4), (4, 4), (3, 4), (3, 4)),
        ((3, 4), (3, 4), (3, 4), (3, 2)),
    ],
)
def test_shapes_that_cannot_be_paired(base, source, adapter, control):
    with pytest.raises(Usage) as caught:
        judge(numpy.zeros(base), numpy.ones(source), AdapterArm(numpy.ones(adapter), {"random": numpy.zeros(control)}))
    assert caught.value.hint


def test_base_is_no_name_for_a_control():
    base, source, arm = arms(0.5, 0.9)
    with pytest.raises(Usage, match="named 'base'"):
        judge(base, source, AdapterArm(arm.scores, {"base": base}))


# How often the rule errs


def share_of(word: str, runs: int, make) -> float:
    share = sum(judge(*make(seed)).word == word for seed in range(runs)) / runs
    print(f"{word}: {share:.1%} of {runs}")
    return share


def random_gains(*means: float, seed: int, problems: int = 60) -> tuple[numpy.ndarray, numpy.ndarray, AdapterArm]:
    """Adapter and controls whose share gained varies from problem to problem, uniform on [0, 2 mean]; the true gain is
    half the mean.
    """
    draw = numpy.random.default_rng(seed)
    rate = draw.random(problems)
    moved = [
        numpy.where((shift := mean * 2 * draw.random(problems)) >= 0, rate + (1 - rate) * shift, rate * (1 + shift))
        for mean in means
    ]
    base, source, scores, *others = answers(rate, gained(rate, 0.6), *moved, seed=seed + 1_000_000)
    return base, source, AdapterArm(scores, {f"random-{i}": other for i, other in enumerate(others)})


@pytest.mark.slow
def test_false_positives_of_an_adapter_exchangeable_with_its_controls(quick):
    """All gain 15 points over base, so that only the controls can tell."""
    assert share_of("transferred", 150, lambda seed: random_gains(0.3, 0.3, 0.3, 0.3, seed=seed)) <= 0.05


@pytest.mark.slow
def test_false_positives_at_a_true_gain_of_exactly_the_margin(quick):
    """The source gains 30 points, so the margin and the adapter's true gain are 3; the controls lose 3, so only base
    can tell.
    """
    assert share_of("transferred", 150, lambda seed: random_gains(0.06, -0.06, -0.06, -0.06, seed=seed)) <= 0.05


@pytest.mark.slow
def test_power(quick):
    """40 points where the source gains 50, on 30 problems."""
    assert share_of("transferred", 50, lambda seed: arms(0.8, 0.98, 0.0, 0.0, -0.1, problems=30, seed=seed)) >= 0.95
