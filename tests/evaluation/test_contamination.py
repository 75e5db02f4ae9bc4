"""Choosing and judging apart: what was chosen on which problems, and which problems the data held already."""

import json
from pathlib import Path

import msgspec

from resa_hub.adapter.results import Overlap
from resa_hub.adapter.store import Adapter, Store
from resa_hub.config.refs import AdapterRef
from resa_hub.config.registry import Registry
from resa_hub.data.tiny import task
from resa_hub.evaluation import contamination
from resa_hub.evaluation.benchmarks.base import Problem
from resa_hub.evaluation.contamination import measure, tokens

NAME = "tina-tiny-feature-diff-l2"
LONG = "A train leaves the station at noon and travels north at sixty miles an hour for two hours before it stops"


def test_exact_and_thirteen_words_in_a_row() -> None:
    problems = [
        ("same", "What is $7 \\cdot 8$?"),
        ("long", f"{LONG}. How far is it?"),
        ("free", "Something else entirely, with none of these words in it at all."),
    ]
    found = measure("d", problems, ["what is 7 \\cdot  8", f"Yesterday: {LONG.upper()} again", "What is 7 + 8?"])
    assert (found.rows, found.problems, found.exact, found.ngram) == (3, 3, ["same"], ["long"])
    assert "1 of 3 problems are in it, 2 share 13 words" in found.sentence
    twelve = " ".join(LONG.split()[:12])
    assert measure("d", problems, [f"{twelve} or not"]).ngram == []
    assert tokens("7*7-8") != tokens("7-7*8") and tokens("$x^2$") == tokens("x^2.")


def test_the_training_split_of_tiny_chain_shares_nothing_with_the_test_split(made: Adapter) -> None:
    problems = [Problem(p.text, p.text, p.answer) for p in task.problems(100, "test", 0)]
    (found,) = contamination.overlaps(made, problems, Registry())
    assert found == Overlap("tiny-chain", 128, 100, [], [])
    recipe = made.manifest.recipe
    assert recipe
    rows = [Problem(p.text, p.text, p.answer) for p in task.problems(128, "train", recipe.trigger.seed)][:5]
    assert contamination.overlaps(made, rows, Registry())[0].exact == [p.id for p in rows]


def test_data_that_cannot_be_read_again_is_named(made: Adapter) -> None:
    manifest = made.manifest
    assert manifest.recipe
    lost = msgspec.structs.replace(
        manifest.recipe, trigger=msgspec.structs.replace(manifest.recipe.trigger, name="./gone.jsonl")
    )
    adapter = Adapter(msgspec.structs.replace(manifest, recipe=lost), made.folder)
    found = contamination.overlaps(adapter, [Problem("a", "1+1=", "2")], Registry())
    assert "not measured" in found[0].sentence and "gone.jsonl" in found[0].sentence and not found[1].reason


def test_what_was_chosen_on_is_remembered(workspace: Path) -> None:
    adapter = Store(workspace / "adapters").get(AdapterRef(NAME))
    splits = ("full", "dev", "test")
    assert contamination.tuned_on(adapter, "math500", "dev", splits) == ("", False)
    (adapter.folder / "evals").mkdir(exist_ok=True)
    told = {
        "verdict": "x",
        "sentence": "x",
        "target": "tiny-r1",
        "benchmark": "math500",
        "split": "dev",
        "purpose": "choosing",
    }
    (adapter.folder / "evals/tiny-r1--math500--dev.json").write_text(json.dumps(told))
    same, part = (
        contamination.tuned_on(adapter, "math500", "dev", splits),
        contamination.tuned_on(adapter, "math500", "full", splits),
    )
    assert "these very problems" in same[0] and "--split test" in same[0] and same[1]
    assert "a part of these" in part[0] and not part[1]
    assert (
        contamination.tuned_on(adapter, "math500", "test", splits)
        == ("", False)
        == contamination.tuned_on(adapter, "aime24", "dev", splits)
    )
    generated = ("test", "dev", "train")
    (adapter.folder / "evals/tiny-r1--tiny-chain--dev.json").write_text(json.dumps(told | {"benchmark": "tiny-chain"}))
    assert contamination.tuned_on(adapter, "tiny-chain", "dev", generated, 0)[1] and contamination.tuned_on(
        adapter, "tiny-chain", "dev", generated, 1
    ) == ("", False)
