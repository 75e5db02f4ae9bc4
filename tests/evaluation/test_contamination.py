"""Contamination: what was selected on which problems, and which problems the data held already."""

import json
from pathlib import Path

import msgspec

from resa_hub.adapter.results import Overlap
from resa_hub.adapter.store import Adapter, Store
from resa_hub.config.refs import AdapterRef
from resa_hub.config.registry import Registry
from resa_hub.data.tiny import task
from resa_hub.evaluation.benchmarks.base import Problem
from resa_hub.evaluation.contamination import data_overlaps, measure_overlap, prior_selection, tokens

NAME = "tina-tiny-feature-diff-l2"
LONG = "A train leaves the station at noon and travels north at sixty miles an hour for two hours before it stops"


def test_exact_and_thirteen_words_in_a_row() -> None:
    problems = [
        ("same", "What is $7 \\cdot 8$?"),
        ("long", f"{LONG}. How far is it?"),
        ("free", "Something else entirely, with none of these words in it at all."),
    ]
    overlap = measure_overlap(
        "d", problems, ["what is 7 \\cdot  8", f"Yesterday: {LONG.upper()} again", "What is 7 + 8?"]
    )
    assert (overlap.rows, overlap.problems, overlap.exact, overlap.ngram) == (3, 3, ["same"], ["long"])
    assert "1 of 3 problems are in it, 2 share 13 words" in overlap.sentence
    twelve = " ".join(LONG.split()[:12])
    assert measure_overlap("d", problems, [f"{twelve} or not"]).ngram == []
    assert tokens("7*7-8") != tokens("7-7*8") and tokens("$x^2$") == tokens("x^2.")


def test_the_training_split_of_tiny_chain_shares_nothing_with_the_test_split(made: Adapter) -> None:
    problems = [Problem(p.text, p.text, p.answer) for p in task.problems(100, "test", 0)]
    (overlap,) = data_overlaps(made, problems, Registry())
    assert overlap == Overlap("tiny-chain", 128, 100, [], [])
    recipe = made.manifest.recipe
    assert recipe
    rows = [Problem(p.text, p.text, p.answer) for p in task.problems(128, "train", recipe.trigger.seed)][:5]
    assert data_overlaps(made, rows, Registry())[0].exact == [p.id for p in rows]


def test_data_that_cannot_be_read_again_is_named(made: Adapter) -> None:
    manifest = made.manifest
    assert manifest.recipe
    lost = msgspec.structs.replace(
        manifest.recipe, trigger=msgspec.structs.replace(manifest.recipe.trigger, name="./gone.jsonl")
    )
    adapter = Adapter(msgspec.structs.replace(manifest, recipe=lost), made.folder)
    trigger, elicit = data_overlaps(adapter, [Problem("a", "1+1=", "2")], Registry())
    assert "not measured" in trigger.sentence and "gone.jsonl" in trigger.sentence and not elicit.reason


def selected(adapter: Adapter, benchmark: str, split: str) -> None:
    """Leave an evaluation beside the adapter that compared checkpoints, in the words of an older version."""
    evaluation = {"verdict": "x", "sentence": "x", "target": "tiny-r1", "benchmark": benchmark, "split": split}
    (adapter.folder / "evals").mkdir(exist_ok=True)
    path = adapter.folder / f"evals/tiny-r1--{benchmark}--{split}.json"
    path.write_text(json.dumps(evaluation | {"purpose": "choosing"}))


def test_what_was_selected_on_is_remembered(workspace: Path) -> None:
    adapter = Store(workspace / "adapters").get(AdapterRef(NAME))
    splits = ("full", "dev", "test")
    assert prior_selection(adapter, "math500", "dev", splits) is None
    selected(adapter, "math500", "dev")
    same, part = (prior_selection(adapter, "math500", split, splits) for split in ("dev", "full"))
    assert same and "these very problems" in same.sentence and "--split test" in same.sentence and same.same_split
    assert part and "a part of these" in part.sentence and not part.same_split
    assert prior_selection(adapter, "math500", "test", splits) is None
    assert prior_selection(adapter, "aime24", "dev", splits) is None


def test_another_problem_seed_of_a_generator_is_another_set_of_problems(workspace: Path) -> None:
    adapter = Store(workspace / "adapters").get(AdapterRef(NAME))
    selected(adapter, "tiny-chain", "dev")
    same = prior_selection(adapter, "tiny-chain", "dev", ("test", "dev", "train"), problem_seed=0)
    assert same and same.same_split
    assert prior_selection(adapter, "tiny-chain", "dev", ("test", "dev", "train"), problem_seed=1) is None
