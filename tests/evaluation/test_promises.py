"""What the hub promises on the embedded family, at T=0.6, 3 controls, 500 fresh problems x 4 samples: feature-diff
transfers, its controls do not.
"""

import pytest

from resa_hub.adapter.results import Evaluation
from resa_hub.core.progress import Progress
from resa_hub.evaluation.evaluate import evaluate
from resa_hub.evaluation.plan import EvalSettings
from resa_hub.extraction.extract import extract

pytestmark = pytest.mark.slow
METHODS = ("feature-diff", "random-features", "sae-tuning")
TARGETS = ("tiny-r1", "tiny-r1b")
WORDS = (
    "identical to base",
    "harmful",
    "source gain not identifiable",
    "transferred",
    "underpowered",
    "not distinguishable from controls",
)


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Evaluation]:
    """(method, target) -> verdict, all methods of one target in one family of comparisons, with the recipes of the
    registry.
    """
    workspace, quiet = tmp_path_factory.mktemp("quality"), Progress(quiet=True)
    names = [
        extract("tina-tiny", method=method, workspace=workspace, progress=quiet)[0].manifest.name for method in METHODS
    ]
    evaluations = {}
    for target in TARGETS:
        results = evaluate(
            names,
            target=target,
            settings=EvalSettings(seeds=3, greedy=False, problem_seed=1),
            workspace=workspace,
            progress=quiet,
        )
        evaluations |= {(method, target): result for method, result in zip(METHODS, results, strict=True)}
    for (method, target), e in evaluations.items():
        low, high = e.retained_ci or (float("nan"), float("nan"))
        controls = ", ".join(f"{a.name.rpartition(' ')[2]} {a.score:.1f}" for a in e.arms if a.role == "random")
        retained = f"source {e.source_gain:+.1f}, retained {e.retained or 0:.2f} [{low:.2f}, {high:.2f}]"
        print(
            f"{method} on {target} ({e.fit}): {e.verdict}: {e.gain:+.1f} [{e.gain_ci[0]:+.1f}, "
            f"{e.gain_ci[1]:+.1f}], {retained}; {controls}"
        )
    return evaluations


def test_feature_diff_retains_most_of_the_gain_on_its_own_base(verdicts: dict[tuple[str, str], Evaluation]) -> None:
    evaluation = verdicts["feature-diff", "tiny-r1"]
    assert evaluation.retained is not None and evaluation.retained >= 0.8
    assert evaluation.source_gain is not None and evaluation.source_gain > 30


@pytest.mark.parametrize("target", TARGETS)
def test_feature_diff_transfers(verdicts: dict[tuple[str, str], Evaluation], target: str) -> None:
    assert verdicts["feature-diff", target].verdict == "transferred"


@pytest.mark.parametrize("target", TARGETS)
def test_random_active_features_do_not(verdicts: dict[tuple[str, str], Evaluation], target: str) -> None:
    assert verdicts["random-features", target].verdict != "transferred"


@pytest.mark.parametrize("target", TARGETS)
def test_norm_matched_random_adapters_gain_nothing_beyond_the_margin(
    verdicts: dict[tuple[str, str], Evaluation], target: str
) -> None:
    evaluation = verdicts["feature-diff", target]
    base = next(arm.score for arm in evaluation.arms if arm.role == "base")
    controls = [arm.score for arm in evaluation.arms if arm.role == "random"]
    assert controls and all(score - base < evaluation.margin for score in controls)


@pytest.mark.parametrize("target", TARGETS)
def test_sae_tuning_gets_the_verdict_that_the_rule_gives_it(
    verdicts: dict[tuple[str, str], Evaluation], target: str
) -> None:
    evaluation = verdicts["sae-tuning", target]
    assert evaluation.verdict in WORDS and evaluation.sentence
    above = [comparison.p_holm_above_margin < 0.025 for comparison in evaluation.comparisons]
    assert (evaluation.verdict == "transferred") == all(above)
