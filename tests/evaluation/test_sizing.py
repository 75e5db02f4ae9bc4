"""Sizes against the known cases and against simulation; the plan as a person reads it."""

import json
import math
import re
from pathlib import Path

import numpy
import pytest

from resa_hub.adapter.workspace import Workspace
from resa_hub.core.errors import Usage
from resa_hub.evaluation import sizing, statistics
from resa_hub.evaluation.plan import EvalSettings
from resa_hub.evaluation.power_analysis import power_analysis
from resa_hub.evaluation.sizing import VarianceEstimate, minimum_detectable_effect
from tests.helpers.commands import resa_hub

NAME = "tina-tiny-feature-diff-l2"
AIME = VarianceEstimate(0.1, 0.287 * (1 - 0.287), "aime24 of r1-distill-1.5b over 10 seeds")


def test_the_known_case_of_aime24() -> None:
    """30 problems, 3 points, 80% power on these problems: 40 to 70 samples; one sample sees 19 to 25 points."""
    assert sizing.mde_multiplier() == pytest.approx(2.80, abs=0.002)
    assert 40 <= sizing.samples_needed(0.03, AIME, 30) <= 70
    assert 0.19 <= minimum_detectable_effect(AIME, 30, 1, same_problems=True) <= 0.25
    assert sizing.samples_needed_new(0.03, AIME, 30) is None
    assert VarianceEstimate.assumed(0.287).answers == pytest.approx(AIME.answers)


def test_sizes_are_inverse_to_each_other() -> None:
    for samples in (1, 4, 64):
        problems = sizing.problems_needed(0.03, AIME, samples)
        assert minimum_detectable_effect(AIME, problems, samples) <= 0.03
        assert minimum_detectable_effect(AIME, problems - 1, samples) > 0.03
    samples = sizing.samples_needed_new(0.03, AIME, 500)
    assert samples and minimum_detectable_effect(AIME, 500, samples) <= 0.03
    assert minimum_detectable_effect(AIME, 500, samples - 1) > 0.03


@pytest.mark.slow
def test_the_planned_size_has_the_planned_power() -> None:
    """Uniform rates, effects of 5 points on average that differ by 10 between problems, independent answers."""
    draw, samples = numpy.random.default_rng(0), 4
    rates = draw.random(200_000) * 0.7
    variance = VarianceEstimate(0.1, float(2 * (rates * (1 - rates)).mean()), "")
    problems, seen = sizing.problems_needed(0.05, variance, samples), 0
    for _ in range(400):
        p = draw.choice(rates, (problems, 1))
        q = p + 0.05 + 0.1 * draw.choice([-1, 1], (problems, 1))
        a, b = ((draw.random((problems, samples)) < rate.clip(0, 1)).astype(float) for rate in (q, p))
        seen += statistics.paired_interval(a, b).low > 0
    assert 0.72 <= seen / 400 <= 0.88


def test_the_variance_is_found_again_in_the_intervals() -> None:
    draw, n, samples = numpy.random.default_rng(0), 4_000, 8
    p = draw.random((n, 1)) * 0.6
    a, b = ((draw.random((n, samples)) < rate).astype(float) for rate in (p + draw.choice([0, 0.4], (n, 1)), p))
    new, same = statistics.paired_interval(a, b), statistics.same_problems_interval(a, b)
    assert same
    measured = VarianceEstimate.measured(new.half_width, same.half_width, n, samples)
    assert measured.effect == pytest.approx(0.2, abs=0.02)
    assert measured.answers == pytest.approx(float((a - b).var(axis=1, ddof=1).mean()), rel=0.01)


def test_hours_follow_from_what_is_read() -> None:
    qwen = {
        "hidden_size": 1536,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "intermediate_size": 8960,
        "vocab_size": 151936,
    }
    assert sizing.parameter_count(qwen) == pytest.approx(1.78e9, rel=0.01)
    assert sizing.cache_entries_per_token(qwen) == 28 * 2 * 2 * 128
    hours = sizing.gpu_hours(qwen, 1_000, 5_000)
    assert hours["H100 SXM"] < hours["A100 80GB"] < hours["L40S"] < hours["L4"]
    assert sizing.gpu_hours(qwen, 2_000, 5_000)["L40S"] == pytest.approx(2 * hours["L40S"])
    large = qwen | {"hidden_size": 8192, "num_hidden_layers": 80, "intermediate_size": 28672}
    assert "T4" not in sizing.gpu_hours(large, 10, 1_000)


def test_a_plan_from_what_was_measured_before(workspace: Path) -> None:
    opened, settings = Workspace(workspace), EvalSettings(problems=200, samples=4)
    assumed = power_analysis([NAME], "tiny-r1", settings, 3, opened)
    assert assumed.spread.origin.startswith("assumed") and assumed.available is None and assumed.arms == 6
    assert assumed.needed and assumed.needed.detects <= 3 < assumed.asked.detects
    assert assumed.completions == 6 * assumed.needed.problems * assumed.needed.samples
    assert "at most" in assumed.tokens_are
    evals = workspace / "adapters" / NAME / "0.1.0/evals"
    evals.mkdir(exist_ok=True)
    evaluation = {
        "verdict": "x",
        "sentence": "x",
        "target": "tiny-r1",
        "benchmark": "tiny-chain",
        "split": "test",
        "problems": 100,
        "samples": 4,
        "gain": 20.0,
        "gain_ci": [15.0, 25.0],
        "gain_ci_same_problems": [17.0, 23.0],
        "arms": [{"tokens": 40.0}],
    }
    (evals / "tiny-r1--tiny-chain--test.json").write_text(json.dumps(evaluation))
    measured = power_analysis([NAME], "tiny-r1", settings, 3, opened)
    # Half-widths over the 97.5% quantiles of t with 99 and 300 degrees of freedom.
    se, within = 0.05 / 1.984217, 0.03 / 1.967903
    assert measured.spread.effect == pytest.approx(math.sqrt(100 * (se**2 - within**2)), rel=1e-4)
    assert measured.spread.answers == pytest.approx(400 * within**2, rel=1e-4)
    assert "40 a completion, measured" in measured.tokens_are
    for detect in (0, 101):
        with pytest.raises(Usage):
            power_analysis([NAME], "tiny-r1", settings, detect, opened)


@pytest.mark.slow
def test_the_plan_of_a_file_as_a_person_reads_it(workspace: Path, tmp_path: Path) -> None:
    rows = [json.dumps({"problem": f"{i}+1=", "answer": str(i + 1)}) + "\n" for i in range(30)]
    (tmp_path / "few.jsonl").write_text("".join(rows))
    command = ["eval", NAME, "--target", "tiny-r1", "--plan", "--detect", "3", "--benchmark", "last-integer=few.jsonl"]
    command += ["--new-tokens", "40", "--workspace", str(workspace)]
    done = resa_hub(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for words in ("30 problems in it", "on these problems alone", "too few problems", "L40S"):
        assert words in done.stdout
    assert re.search(r"6 arms: [\d,]+ completions", done.stdout)
    document = json.loads(resa_hub(*command, "--json", cwd=tmp_path).stdout)
    assert document["needed"] is None and document["needed_same"]["detects_same"] <= 3
