"""Samples are drawn once: shared between runs, mended when damaged, and an evaluation that was stopped goes on."""

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from resa_hub.adapter.layout import CONFIG
from resa_hub.adapter.results import Evaluation
from resa_hub.adapter.workspace import Workspace
from resa_hub.core.errors import RunFailed
from resa_hub.evaluation.plan import EvalSettings, plan
from resa_hub.evaluation.sampling.engines import Engines
from resa_hub.evaluation.sampling.samples import SampleStore
from tests.helpers.evaluations import ARMS, NAME, SMALL, counts, numbers, run
from tests.helpers.evaluations import again as again
from tests.helpers.evaluations import no_sampling as no_sampling


@pytest.mark.slow
def test_nothing_is_generated_twice(again: Path, judged: tuple[Path, Evaluation], no_sampling: None) -> None:
    assert counts(again) == [40] * ARMS + [80] * ARMS
    assert numbers(run(again)) == numbers(judged[1])


@pytest.mark.slow
def test_a_smaller_question_is_answered_from_the_same_samples(again: Path, no_sampling: None) -> None:
    assert run(again, EvalSettings(problems=30, samples=1, seeds=1, greedy=False)).problems == 30


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["half of the samples", "one arm", "a text", "cut file", "not a database"])
def test_what_is_missing_is_made_again_the_same(again: Path, judged: tuple[Path, Evaluation], damage: str) -> None:
    path = again / ".resa-hub/samples.sqlite"
    with sqlite3.connect(path) as db:
        if damage == "half of the samples":
            db.execute("DELETE FROM samples WHERE rowid % 2 = 0")
        elif damage == "one arm":
            db.execute("DELETE FROM samples WHERE set_id = (SELECT min(set_id) FROM samples)")
        elif damage == "a text":
            db.execute("UPDATE samples SET text = x'00ff' WHERE rowid = 7")
    db.close()
    if damage == "cut file":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "not a database":
        path.write_bytes(b"nonsense " * 1000)
    evaluation = run(again)
    if damage != "cut file":  # where the cut goes through a text, that is counted too
        notes = [note for note in evaluation.notes if not note.startswith("overlap ")]
        assert notes == (["1 damaged samples were made again"] if damage == "a text" else [])
    assert numbers(evaluation) | {"notes": []} == numbers(judged[1]) | {"notes": []}
    assert counts(again) == [40] * ARMS + [80] * ARMS
    aside = [p.name for p in path.parent.glob("*.damaged-*")]
    assert aside == (["samples.sqlite.damaged-1"] if damage in ("cut file", "not a database") else [])


@pytest.mark.slow
def test_an_interrupted_evaluation_goes_on_where_it_was(
    again: Path, judged: tuple[Path, Evaluation], monkeypatch: pytest.MonkeyPatch
) -> None:
    (again / ".resa-hub/samples.sqlite").unlink()
    add, calls = SampleStore.add, []

    def interrupted(self: SampleStore, *what: Any) -> None:
        add(self, *what)
        calls.append(self)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(SampleStore, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(again)
    assert 0 < sum(counts(again)) < 120 * ARMS
    assert numbers(run(again)) == numbers(judged[1])


@pytest.mark.slow
def test_an_engine_that_dies_keeps_what_was_finished_and_is_named(
    again: Path, judged: tuple[Path, Evaluation], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The forward pass of the model fails in the third arm; the next run generates the rest alone."""
    from resa_hub.engine.generation import transformers_engine

    (again / ".resa-hub/samples.sqlite").unlink()
    generate, calls = transformers_engine.generate, []

    def failing(*what: Any, **how: Any) -> Any:
        calls.append(what)
        if len(calls) == 3:
            raise RuntimeError("the device was lost\nsecond line")
        return generate(*what, **how)

    with monkeypatch.context() as patched:
        patched.setattr(transformers_engine, "generate", failing)
        with pytest.raises(RunFailed, match=r"engine transformers died: RuntimeError: the device was lost$") as caught:
            run(again, replace(SMALL, engines=Engines(lora="merged")))
    assert caught.value.exit_code == 1 and "160 new samples are kept" in caught.value.hint and counts(again) == [80, 80]
    assert numbers(run(again)) == numbers(judged[1])


@pytest.mark.slow
def test_two_processes_share_the_work_and_give_the_same(again: Path, judged: tuple[Path, Evaluation]) -> None:
    (again / ".resa-hub/samples.sqlite").unlink()
    assert numbers(run(again, replace(SMALL, engines=Engines(workers=2)))) == numbers(judged[1])


@pytest.mark.slow
def test_more_samples_and_more_arms_generate_only_what_is_missing(again: Path, judged: tuple[Path, Evaluation]) -> None:
    wider = run(again, replace(SMALL, samples=3, arms=("all",), greedy=False))
    assert counts(again) == [40] * ARMS + [120] * (ARMS + 1)
    assert [arm.role for arm in wider.arms] == ["base", "source", "adapter", "random", "random", "negated"]
    (left_out,) = (note for note in wider.notes if not note.startswith("overlap "))
    assert "prompt-only was left out" in left_out and "which the tokenizer does not know" in left_out
    negated = next(c for c in wider.contrasts if c.role == "negated")
    assert negated.low <= negated.value <= negated.high
    narrow = run(again, replace(SMALL, arms=("source",), greedy=False))
    assert [arm.role for arm in narrow.arms] == ["base", "source", "adapter"] and narrow.verdict != "transferred"


@pytest.mark.slow
def test_another_seed_draws_other_samples(again: Path) -> None:
    run(again, EvalSettings(problems=20, samples=1, seeds=1, seed=5))
    assert counts(again) == sorted([20] * (ARMS - 1) + [40] * ARMS + [80] * ARMS)  # greedy answers have no seed


@pytest.mark.slow
def test_the_config_of_an_adapter_is_part_of_its_arm(again: Path) -> None:
    arm = next(arm for arm in plan([NAME], "tiny-r1", SMALL, Workspace(again)).arms if arm.role == "adapter")
    before = arm.identity
    path = again / "adapters" / NAME / "0.1.0" / CONFIG
    path.write_text(path.read_text().replace('"lora_alpha": 128', '"lora_alpha": 64'))
    assert arm.identity != before
