"""Evaluation from names to a recorded verdict: samples are drawn once, mended when cut, and shared between runs."""

import json
import shutil
import sqlite3
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from resa_hub.adapter.files import CARD, CONFIG, MANIFEST, WEIGHTS, content_hash, identity_of, scan
from resa_hub.adapter.store import Adapter, Store
from resa_hub.adapter.verify import verify
from resa_hub.benchmarks.base import Problem
from resa_hub.cli.app import run as command
from resa_hub.collect import Engines
from resa_hub.errors import DoesNotFit, NoEffect, NotFound, RunFailed, Usage
from resa_hub.evaluate import Settings, evaluate, plan
from resa_hub.evaluation.document import Evaluation
from resa_hub.evaluation.samples import SampleStore
from resa_hub.progress import Progress
from resa_hub.record import kept
from resa_hub.refs import AdapterRef
from resa_hub.workspace import Workspace

NAME = "tina-tiny-feature-diff-l2"
SMALL = Settings(problems=40, samples=2, seeds=2)
ARMS = 5  # base, source, adapter, two controls


@pytest.fixture(scope="module")
def judged(made: Adapter, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Evaluation]:
    """A workspace with one evaluation of 40 problems; read it, change copies only."""
    workspace = tmp_path_factory.mktemp("judged")
    shutil.copytree(made.folder.parent.parent, workspace / "adapters")
    return workspace, run(workspace)


@pytest.fixture
def again(judged: tuple[Path, Evaluation], tmp_path: Path) -> Path:
    shutil.copytree(judged[0], tmp_path / "copy")
    return tmp_path / "copy"


def run(workspace: Path, settings: Settings = SMALL, target: str = "tiny-r1", names: str | list[str] = NAME, record: bool = True) -> Evaluation:
    return evaluate(names, target=target, settings=settings, workspace=workspace, progress=Progress(quiet=True), record=record)[0]


def numbers(evaluation: Evaluation) -> dict[str, object]:
    """All but the time it took."""
    return {key: value for key, value in msgspec.to_builtins(evaluation).items() if key not in ("created", "seconds")}


def ask(workspace: Path, query: str, *values: Any) -> list[Any]:
    """Straight from the file."""
    with sqlite3.connect(workspace / ".resa-hub/samples.sqlite") as db:
        return db.execute(query, values).fetchall()


def counts(workspace: Path) -> list[int]:
    """Samples of every set."""
    return sorted(count for (count,) in ask(workspace, "SELECT count(*) FROM samples GROUP BY set_id"))


@pytest.fixture
def no_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resa_hub.engine.generate.engines.open_engine", lambda *_, **__: pytest.fail("a model was loaded"))


@pytest.mark.slow
def test_the_documented_keys_are_there(judged: tuple[Path, Evaluation]) -> None:
    document = json.loads(msgspec.json.encode(judged[1]))
    assert {"verdict", "gain", "gain_ci", "retained", "retained_ci", "arms"} <= document.keys()
    assert [arm["role"] for arm in document["arms"]] == ["base", "source", "adapter", "random", "random"]
    low, high = document["gain_ci"]
    assert low <= document["gain"] <= high and document["problems"] == 40 and document["samples"] == 2
    assert document["fit"] == "exact" and document["temperature"] == 0.6
    scores = {arm["name"]: arm["score"] for arm in document["arms"]}
    assert document["gain"] == pytest.approx(scores[f"{NAME}@0.1.0"] - scores["base"])
    assert document["source_gain"] == pytest.approx(scores["source"] - scores["base"])


@pytest.mark.slow
def test_the_scores_are_the_grades_of_the_samples(judged: tuple[Path, Evaluation]) -> None:
    """Graded again here, straight from the files."""
    from resa_hub.tiny import task

    answers = {problem.text: problem.answer for problem in task.problems(40, "test", 0)}
    scores = set()
    for arm in judged[1].arms:
        rows = ask(judged[0], "SELECT number, finished, text FROM samples JOIN sets ON sets.id = set_id WHERE digest = ? ORDER BY problem, number", arm.samples)
        assert len(rows) == 80
        texts = [zlib.decompress(text).decode() for _, _, text in rows]
        assert all("<answer>" in text for (_, finished, _), text in zip(rows, texts, strict=True) if finished)
        store = SampleStore(judged[0] / ".resa-hub")
        found = store.read(arm.samples, [Problem(text, text, answer) for text, answer in answers.items()])
        store.close()
        scores.add(round(100 * sum(s.finished and s.text.endswith(f"<answer>{answers[key[0]]}</answer>") for key, s in found.items()) / 80, 6))
    assert scores == {round(arm.score, 6) for arm in judged[1].arms}


@pytest.mark.slow
def test_the_source_is_better_than_base_already_here(judged: tuple[Path, Evaluation]) -> None:
    assert judged[1].source_gain is not None and judged[1].source_gain > 20 and judged[1].verdict


@pytest.mark.slow
def test_nothing_is_generated_twice(again: Path, judged: tuple[Path, Evaluation], no_sampling: None) -> None:
    assert counts(again) == [40] * ARMS + [80] * ARMS
    assert numbers(run(again)) == numbers(judged[1])


@pytest.mark.slow
def test_a_smaller_question_is_answered_from_the_same_samples(again: Path, no_sampling: None) -> None:
    assert run(again, Settings(problems=30, samples=1, seeds=1, greedy=False)).problems == 30


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
    found = run(again)
    if damage != "cut file":  # where the cut goes through a text, that is counted too
        told = [note for note in found.notes if not note.startswith("overlap ")]
        assert told == (["1 damaged samples were made again"] if damage == "a text" else [])
    assert numbers(found) | {"notes": []} == numbers(judged[1]) | {"notes": []}
    assert counts(again) == [40] * ARMS + [80] * ARMS
    aside = [p.name for p in path.parent.glob("*.damaged-*")]
    assert aside == (["samples.sqlite.damaged-1"] if damage in ("cut file", "not a database") else [])


@pytest.mark.slow
def test_an_interrupted_evaluation_goes_on_where_it_was(again: Path, judged: tuple[Path, Evaluation], monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_an_engine_that_dies_keeps_what_was_finished_and_is_named(again: Path, judged: tuple[Path, Evaluation], monkeypatch: pytest.MonkeyPatch) -> None:
    """The forward pass of the model fails in the third arm; the next run generates the rest alone."""
    from resa_hub.engine.generate import transformers_engine

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
def test_all_arms_are_asked_the_same_token_ids(judged: tuple[Path, Evaluation]) -> None:
    assert len({arm.prompts for arm in judged[1].arms}) == 1 and judged[1].arms[0].prompts.startswith("sha256:")
    assert judged[1].engine["name"] == "transformers" and judged[1].engine["dtype"] == "float32" and judged[1].fingerprint.startswith("sha256:")


@pytest.mark.slow
def test_other_methods_of_the_same_source_and_data_are_controls_where_they_are_made(again: Path) -> None:
    folder = again / "adapters" / NAME / "0.1.0"
    for name, method, created, source in (
        ("old", "pca-diff", "2025", None),
        ("new", "pca-diff", "2026", None),
        ("foreign", "sft", "2026", "resa-hub/tiny-math"),
    ):
        manifest = json.loads((folder / MANIFEST).read_text())
        shutil.copytree(folder, again / "adapters" / name / "0.1.0")
        manifest |= {"name": name, "method": method, "source": source or manifest["source"]}
        manifest["run"]["created"] = created
        (again / "adapters" / name / "0.1.0" / MANIFEST).write_text(json.dumps(manifest))
    made = plan([NAME], "tiny-r1", replace(SMALL, arms=("usual",)), Workspace(again))
    assert [(arm.name, arm.role) for arm in made.arms if arm.role in ("sft", "pca-diff")] == [("new@0.1.0", "pca-diff")]
    assert not [arm for arm in plan(["new", NAME], "tiny-r1", SMALL, Workspace(again)).arms if arm.role in ("sft", "pca-diff")]
    found = run(again)
    assert found.contrasts[-1].against == "new@0.1.0" and found.contrasts[-1].value == 0.0 and "new" not in str(found.comparisons)


@pytest.mark.parametrize("budget", [200, 10_000])
def test_a_context_too_small_for_the_answers_is_refused_by_name(workspace: Path, no_sampling: None, budget: int) -> None:
    with pytest.raises(DoesNotFit, match="has a context of 256 tokens; the longest prompt has") as caught:
        run(workspace, replace(SMALL, new_tokens=budget + 50))
    assert "--new-tokens" in caught.value.hint


@pytest.mark.slow
def test_the_verdict_is_recorded_and_the_adapter_still_verifies(judged: tuple[Path, Evaluation], made: Adapter) -> None:
    adapter = Store(judged[0] / "adapters").get(AdapterRef(NAME))
    recorded = json.loads((adapter.folder / "evals/tiny-r1--tiny-chain--test.json").read_text())
    assert recorded["verdict"] == judged[1].verdict and recorded["content_hash"] == made.manifest.content_hash
    assert [e["target"] for e in kept(adapter)] == ["tiny-r1"]
    card = (adapter.folder / CARD).read_text()
    assert f"**{judged[1].verdict}** on tiny-r1" in card and "No evaluation is attached" not in card
    assert verify(adapter.folder).content_hash == made.manifest.content_hash


@pytest.mark.slow
def test_without_record_the_adapter_is_left_as_it_was(workspace: Path, judged: tuple[Path, Evaluation]) -> None:
    shutil.copytree(judged[0] / ".resa-hub", workspace / ".resa-hub")
    before = scan(workspace / "adapters" / NAME / "0.1.0")
    run(workspace, record=False)
    assert scan(workspace / "adapters" / NAME / "0.1.0") == before


@pytest.mark.slow
def test_on_a_sibling_the_source_runs_on_the_target_and_as_itself(again: Path) -> None:
    found = run(again, Settings(problems=20, samples=1, seeds=1, greedy=False), target="tiny-r1b")
    assert found.fit == "kin"
    assert [(arm.name, arm.role) for arm in found.arms][:3] == [("base", "base"), ("source", "source"), ("source-model", "source-model")]
    made = plan([NAME], "tiny-r1b", SMALL, Workspace(again))
    bases = {arm.name: (arm.base.id, bool(arm.folder)) for arm in made.arms}
    assert bases["source"] == ("resa-hub/tiny-r1b", True) and bases["source-model"] == ("resa-hub/tiny-r1", True)
    assert bases["base"] == ("resa-hub/tiny-r1b", False)
    assert len(list((again / "adapters" / NAME / "0.1.0/evals").glob("*.json"))) == 2


@pytest.mark.slow
def test_two_adapters_of_one_run_share_base_and_source(again: Path) -> None:
    root = again / "adapters"
    shutil.copytree(root / NAME, root / "twin")
    manifest = json.loads((root / "twin/0.1.0" / MANIFEST).read_text())
    (root / "twin/0.1.0" / MANIFEST).write_text(json.dumps(manifest | {"name": "twin"}))
    results = evaluate(
        [NAME, "twin"], target="tiny-r1", settings=Settings(problems=20, samples=1, seeds=1, greedy=False), workspace=again, progress=Progress(quiet=True)
    )
    assert [r.adapter for r in results] == [f"{NAME}@0.1.0", "twin@0.1.0"]
    assert results[0].gain == results[1].gain
    assert [a.role for a in results[1].arms] == ["base", "source", "adapter", "random"] and results[1].arms[2].name == "twin@0.1.0"


def resigned(workspace: Path) -> None:
    """Make the manifest agree with changed bytes, as its own author would have written it."""
    folder = workspace / "adapters" / NAME / "0.1.0"
    files = identity_of(scan(folder))
    content = json.loads((folder / MANIFEST).read_text())
    content |= {"files": [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in files], "content_hash": content_hash(files)}
    (folder / MANIFEST).write_text(json.dumps(content))


def scaled(workspace: Path, a: float, b: float) -> None:
    from safetensors.torch import load_file, save_file

    path = workspace / "adapters" / NAME / "0.1.0" / WEIGHTS
    save_file({name: t * (a if ".lora_A." in name else b) for name, t in load_file(path).items()}, path, metadata={"format": "pt"})
    resigned(workspace)


def test_a_zero_adapter_is_judged_identical_to_base_and_never_attached(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Through the command line, to the page. Its answers are base's, letter for letter, at both temperatures; no control of its norm is run."""
    scaled(workspace, 1.0, 0.0)
    where, page = ["--target", "tiny-r1", "--workspace", str(workspace)], workspace / "page.html"
    assert command(["attach", NAME, *where, "-q"]) == 9 and "every B of the adapter is zero" in capsys.readouterr().err
    few = ["--problems", "12", "--samples", "2", "--arms", "random,negated"]
    assert command(["eval", NAME, *where, *few, "--json", "--page", str(page)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "identical to base" and found["gain"] == 0 and [arm["role"] for arm in found["arms"]] == ["base", "adapter"]
    said = " ".join(found["notes"])
    assert "24 of 24 samples" in said and "12 of 12 greedy answers" in said and "controls of its norm would be zero too" in said
    assert '<p class="word">Identical to base.</p>' in page.read_text()
    assert kept(Store(workspace / "adapters").get(AdapterRef(NAME)))[0]["verdict"] == "identical to base"


@pytest.mark.parametrize("broken", ["scale", "keys"])
def test_what_no_loader_would_find_is_no_zero_adapter(workspace: Path, no_sampling: None, broken: str) -> None:
    folder = workspace / "adapters" / NAME / "0.1.0"
    if broken == "scale":
        (folder / CONFIG).write_text(json.dumps(json.loads((folder / CONFIG).read_text()) | {"lora_alpha": 0}))
    else:
        from safetensors.torch import load_file, save_file

        save_file({name.replace("lora_B", "lora_up"): 0 * t for name, t in load_file(folder / WEIGHTS).items()}, folder / WEIGHTS)
    resigned(workspace)
    with pytest.raises(NoEffect) as caught:
        run(workspace)
    assert caught.value.exit_code == 9 and not (workspace / ".resa-hub").exists()


@pytest.mark.slow
def test_an_adapter_whose_product_vanishes_is_identical_to_base(workspace: Path) -> None:
    """Its matrices are not zero, so reading them does not tell; no logit differs, so there is nothing to judge, with or without controls."""
    scaled(workspace, 1e-25, 1e-25)
    found = run(workspace, Settings(problems=20, samples=1, seeds=0, greedy=False))
    assert found.verdict == "identical to base" and found.gain == 0
    with pytest.raises(RunFailed, match="controls nothing"):
        run(workspace, Settings(problems=20, samples=1, seeds=1, greedy=False))


@pytest.mark.slow
def test_what_was_chosen_on_problems_stays_marked_on_them(again: Path, no_sampling: None, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", NAME, "--target", "tiny-r1", "--problems", "40", "--samples", "2", "--controls", "2", "--workspace", str(again), "--json"]
    assert command([*words, "--choosing"]) == 0 and json.loads(capsys.readouterr().out)["purpose"] == "choosing"
    assert command(words) == 0
    later = json.loads(capsys.readouterr().out)
    assert later["purpose"] == "choosing" and "was chosen on these very problems (tiny-chain, test)" in " ".join(later["notes"])


@pytest.mark.slow
def test_without_controls_nothing_is_called_transferred(again: Path) -> None:
    assert run(again, Settings(problems=20, samples=1, seeds=0, greedy=False)).verdict != "transferred"


@pytest.mark.parametrize(
    ("settings", "target", "name", "kind"),
    [
        (Settings(problems=1), "tiny-r1", NAME, Usage),
        (Settings(problems=10**6), "tiny-r1", NAME, Usage),
        (Settings(samples=0), "tiny-r1", NAME, Usage),
        (Settings(seeds=-1), "tiny-r1", NAME, Usage),
        (Settings(split="exam"), "tiny-r1", NAME, Usage),
        (Settings(benchmark="aime2024"), "tiny-r1", NAME, NotFound),
        (Settings(arms=("sources",)), "tiny-r1", NAME, Usage),
        (Settings(engines=Engines("tensorflow")), "tiny-r1", NAME, Usage),
        (Settings(engines=Engines(workers=0)), "tiny-r1", NAME, Usage),
        (Settings(new_tokens=0), "tiny-r1", NAME, Usage),
        (SMALL, "tiny-r1", "nobody", NotFound),
        (SMALL, "tiny-r7", NAME, NotFound),
        (SMALL, "tina-tiny", NAME, Usage),
    ],
    ids=str,
)
def test_mistakes_are_told_before_anything_is_loaded(workspace: Path, no_sampling: None, settings: Settings, target: str, name: str, kind: type) -> None:
    with pytest.raises(kind) as caught:
        run(workspace, settings, target, name)
    assert caught.value.hint or kind is NotFound


@pytest.mark.slow
def test_another_seed_draws_other_samples(again: Path) -> None:
    run(again, Settings(problems=20, samples=1, seeds=1, seed=5))
    assert counts(again) == sorted([20] * (ARMS - 1) + [40] * ARMS + [80] * ARMS)  # greedy answers have no seed


@pytest.mark.slow
def test_the_config_of_an_adapter_is_part_of_its_arm(again: Path) -> None:
    made = plan([NAME], "tiny-r1", SMALL, Workspace(again))
    arm = next(arm for arm in made.arms if arm.role == "adapter")
    before = arm.identity
    path = again / "adapters" / NAME / "0.1.0" / CONFIG
    path.write_text(path.read_text().replace('"lora_alpha": 128', '"lora_alpha": 64'))
    assert arm.identity != before
