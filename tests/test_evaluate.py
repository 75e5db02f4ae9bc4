"""Evaluation from names to a recorded verdict: samples are drawn once, mended when cut, and shared between runs."""

import json
import shutil
from pathlib import Path

import msgspec
import pytest

from resa_hub.adapter.files import CARD, CONFIG, MANIFEST, WEIGHTS, content_hash, identity_of, scan
from resa_hub.adapter.store import Adapter, Store, verify
from resa_hub.errors import NoEffect, NotFound, RunFailed, Usage
from resa_hub.evaluate import Evaluation, Settings, evaluate, plan
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


def sample_files(workspace: Path) -> list[Path]:
    return sorted((workspace / ".resa-hub/samples").glob("*.jsonl"))


@pytest.fixture
def no_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resa_hub.engine.arms.sample", lambda *_, **__: pytest.fail("samples were generated"))


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

    answers = {p.text: p.answer for p in task.problems(40, "test", 0)}
    scores = set()
    for path in sample_files(judged[0]):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert len({(row[0], row[1]) for row in rows}) == len(rows) and {row[0] for row in rows} == answers.keys()
        if len(rows) == 80:
            scores.add(round(100 * sum(row[4] and row[2].endswith(f"<answer>{answers[row[0]]}</answer>") for row in rows) / 80, 6))
    assert scores == {round(arm.score, 6) for arm in judged[1].arms}


@pytest.mark.slow
def test_the_source_is_better_than_base_already_here(judged: tuple[Path, Evaluation]) -> None:
    assert judged[1].source_gain is not None and judged[1].source_gain > 20 and judged[1].verdict


@pytest.mark.slow
def test_nothing_is_generated_twice(again: Path, judged: tuple[Path, Evaluation], no_sampling: None) -> None:
    assert len(sample_files(again)) == 2 * ARMS
    assert numbers(run(again)) == numbers(judged[1])


@pytest.mark.slow
def test_a_smaller_question_is_answered_from_the_same_samples(again: Path, no_sampling: None) -> None:
    assert run(again, Settings(problems=30, samples=1, seeds=1, greedy=False)).problems == 30


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut line", "half of the lines", "one file", "a stranger's line"])
def test_what_is_missing_is_made_again_the_same(again: Path, judged: tuple[Path, Evaluation], damage: str) -> None:
    victim, *others = sample_files(again)
    lines = victim.read_text().splitlines(keepends=True)
    if damage == "cut line":
        victim.write_text("".join(lines)[:-9])
    elif damage == "half of the lines":
        for path in (victim, *others):
            path.write_text("".join(path.read_text().splitlines(keepends=True)[::2]))
    elif damage == "one file":
        victim.unlink()
    else:
        victim.write_text("".join(lines[:-1]) + '{"not": "a row"}\n[1, 2]\nnonsense\n')
    assert numbers(run(again)) == numbers(judged[1])
    for path in sample_files(again):
        keys = [tuple(row[:2]) for row in map(parsed, path.read_text().splitlines()) if row]
        assert len(keys) == len(set(keys))


def parsed(line: str) -> list | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, list) and len(row) == 5 else None


@pytest.mark.slow
def test_an_interrupted_evaluation_goes_on_where_it_was(again: Path, judged: tuple[Path, Evaluation], monkeypatch: pytest.MonkeyPatch) -> None:
    from resa_hub.evaluation.samples import SampleFile

    for path in sample_files(again):
        path.unlink()
    append, calls = SampleFile.append, []

    def interrupted(self: SampleFile, samples: object) -> None:
        append(self, samples)  # pyright: ignore[reportArgumentType]
        calls.append(self)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(SampleFile, "append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(again)
    assert 0 < len(sample_files(again)) < 2 * ARMS
    assert numbers(run(again)) == numbers(judged[1])


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


def test_a_zero_adapter_is_refused_before_anything_is_sampled(workspace: Path, no_sampling: None) -> None:
    scaled(workspace, 1.0, 0.0)
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
    before = {path.name for path in sample_files(again)}
    run(again, Settings(problems=20, samples=1, seeds=1, seed=5, greedy=False))
    assert len({path.name for path in sample_files(again)} - before) == ARMS - 1


@pytest.mark.slow
def test_the_config_of_an_adapter_is_part_of_its_arm(again: Path) -> None:
    made = plan([NAME], "tiny-r1", SMALL, Workspace(again))
    arm = next(arm for arm in made.arms if arm.role == "adapter")
    before = arm.identity
    path = again / "adapters" / NAME / "0.1.0" / CONFIG
    path.write_text(path.read_text().replace('"lora_alpha": 128', '"lora_alpha": 64'))
    assert arm.identity != before
