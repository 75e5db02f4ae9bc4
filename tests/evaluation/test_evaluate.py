"""Evaluation from names to a recorded verdict; mistaken arguments, and adapters that change nothing."""

import contextlib
import json
import shutil
import zlib
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from resa_hub.adapter.layout import CARD, CONFIG, MANIFEST, WEIGHTS, content_hash, identity_of, scan
from resa_hub.adapter.recorded import load_evaluations
from resa_hub.adapter.results import Evaluation
from resa_hub.adapter.store import Adapter, Store
from resa_hub.adapter.verify import verify_folder
from resa_hub.adapter.workspace import Workspace
from resa_hub.cli.main import run as command
from resa_hub.config.refs import AdapterRef
from resa_hub.core.errors import DoesNotFit, NoEffect, NotFound, RunFailed, Usage
from resa_hub.core.progress import Progress
from resa_hub.evaluation.benchmarks.base import Problem
from resa_hub.evaluation.evaluate import evaluate
from resa_hub.evaluation.plan import EvalSettings, plan
from resa_hub.evaluation.sampling.engines import Engines
from resa_hub.evaluation.sampling.samples import SampleStore
from tests.helpers.evaluations import NAME, SMALL, ask, run
from tests.helpers.evaluations import again as again
from tests.helpers.evaluations import no_sampling as no_sampling


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
    from resa_hub.data.tiny import task

    answers = {problem.text: problem.answer for problem in task.problems(40, "test", 0)}
    problems = [Problem(text, text, answer) for text, answer in answers.items()]
    query = "SELECT finished, text FROM samples JOIN sets ON sets.id = set_id WHERE digest = ?"
    scores = set()
    for arm in judged[1].arms:
        rows = ask(judged[0], query, arm.samples)
        assert len(rows) == 80
        assert all("<answer>" in zlib.decompress(text).decode() for finished, text in rows if finished)
        with contextlib.closing(SampleStore(judged[0] / ".resa-hub")) as store:
            samples = store.read(arm.samples, problems)
        right = sum(s.finished and s.text.endswith(f"<answer>{answers[key[0]]}</answer>") for key, s in samples.items())
        scores.add(round(100 * right / 80, 6))
    assert scores == {round(arm.score, 6) for arm in judged[1].arms}


@pytest.mark.slow
def test_the_source_is_better_than_base_already_here(judged: tuple[Path, Evaluation]) -> None:
    assert judged[1].source_gain is not None and judged[1].source_gain > 20 and judged[1].verdict


@pytest.mark.slow
def test_all_arms_are_asked_the_same_token_ids(judged: tuple[Path, Evaluation]) -> None:
    assert len({arm.prompts for arm in judged[1].arms}) == 1 and judged[1].arms[0].prompts.startswith("sha256:")
    assert judged[1].engine["name"] == "transformers" and judged[1].engine["dtype"] == "float32"
    assert judged[1].fingerprint.startswith("sha256:")


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
    methods = ("sft", "pca-diff")
    arms = plan([NAME], "tiny-r1", replace(SMALL, arms=("usual",)), Workspace(again)).arms
    assert [(arm.name, arm.role) for arm in arms if arm.role in methods] == [("new@0.1.0", "pca-diff")]
    assert not [arm for arm in plan(["new", NAME], "tiny-r1", SMALL, Workspace(again)).arms if arm.role in methods]
    evaluation = run(again)
    assert evaluation.contrasts[-1].against == "new@0.1.0" and evaluation.contrasts[-1].value == 0.0
    assert "new" not in str(evaluation.comparisons)


@pytest.mark.parametrize("budget", [200, 10_000])
def test_a_context_too_small_for_the_answers_is_refused_by_name(
    workspace: Path, no_sampling: None, budget: int
) -> None:
    with pytest.raises(DoesNotFit, match="has a context of 256 tokens; the longest prompt has") as caught:
        run(workspace, replace(SMALL, new_tokens=budget + 50))
    assert "--new-tokens" in caught.value.hint


@pytest.mark.slow
def test_the_verdict_is_recorded_and_the_adapter_still_verifies(judged: tuple[Path, Evaluation], made: Adapter) -> None:
    adapter = Store(judged[0] / "adapters").get(AdapterRef(NAME))
    recorded = json.loads((adapter.folder / "evals/tiny-r1--tiny-chain--test.json").read_text())
    assert recorded["verdict"] == judged[1].verdict and recorded["content_hash"] == made.manifest.content_hash
    assert [e["target"] for e in load_evaluations(adapter)] == ["tiny-r1"]
    card = (adapter.folder / CARD).read_text()
    assert f"**{judged[1].verdict}** on tiny-r1" in card and "No evaluation is attached" not in card
    assert verify_folder(adapter.folder).content_hash == made.manifest.content_hash


@pytest.mark.slow
def test_without_record_the_adapter_is_left_as_it_was(workspace: Path, judged: tuple[Path, Evaluation]) -> None:
    shutil.copytree(judged[0] / ".resa-hub", workspace / ".resa-hub")
    before = scan(workspace / "adapters" / NAME / "0.1.0")
    run(workspace, record=False)
    assert scan(workspace / "adapters" / NAME / "0.1.0") == before


@pytest.mark.slow
def test_on_a_sibling_the_source_runs_on_the_target_and_as_itself(again: Path) -> None:
    evaluation = run(again, EvalSettings(problems=20, samples=1, seeds=1, greedy=False), target="tiny-r1b")
    assert evaluation.fit == "kin"
    roles = ["base", "source", "source-model"]
    assert [(arm.name, arm.role) for arm in evaluation.arms][:3] == [(role, role) for role in roles]
    arms = plan([NAME], "tiny-r1b", SMALL, Workspace(again)).arms
    bases = {arm.name: (arm.base.id, bool(arm.folder)) for arm in arms}
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
        [NAME, "twin"],
        target="tiny-r1",
        settings=EvalSettings(problems=20, samples=1, seeds=1, greedy=False),
        workspace=again,
        progress=Progress(quiet=True),
    )
    assert [r.adapter for r in results] == [f"{NAME}@0.1.0", "twin@0.1.0"]
    assert results[0].gain == results[1].gain
    assert [arm.role for arm in results[1].arms] == ["base", "source", "adapter", "random"]
    assert results[1].arms[2].name == "twin@0.1.0"


def sign_again(workspace: Path) -> None:
    """Make the manifest agree with changed bytes, as its own author would have written it."""
    folder = workspace / "adapters" / NAME / "0.1.0"
    files = identity_of(scan(folder))
    content = json.loads((folder / MANIFEST).read_text())
    content |= {
        "files": [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in files],
        "content_hash": content_hash(files),
    }
    (folder / MANIFEST).write_text(json.dumps(content))


def scale_weights(workspace: Path, a: float, b: float) -> None:
    """Multiply every A and every B."""
    from safetensors.torch import load_file, save_file

    path = workspace / "adapters" / NAME / "0.1.0" / WEIGHTS
    weights = {name: tensor * (a if ".lora_A." in name else b) for name, tensor in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})
    sign_again(workspace)


@pytest.mark.slow
def test_a_zero_adapter_is_judged_identical_to_base_and_never_attached(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through the command line, to the page. Its answers are base's, letter for letter, at both temperatures; no
    control of its norm is run.
    """
    scale_weights(workspace, 1.0, 0.0)
    where, page = ["--target", "tiny-r1", "--workspace", str(workspace)], workspace / "page.html"
    assert command(["attach", NAME, *where, "-q"]) == 9 and "every B of the adapter is zero" in capsys.readouterr().err
    few = ["--problems", "12", "--samples", "2", "--arms", "random,negated"]
    assert command(["eval", NAME, *where, *few, "--json", "--page", str(page)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "identical to base" and document["gain"] == 0
    assert [arm["role"] for arm in document["arms"]] == ["base", "adapter"]
    for words in ("24 of 24 samples", "12 of 12 greedy answers", "controls of its norm would be zero too"):
        assert words in " ".join(document["notes"])
    assert '<p class="word">Identical to base.</p>' in page.read_text()
    assert load_evaluations(Store(workspace / "adapters").get(AdapterRef(NAME)))[0]["verdict"] == "identical to base"


@pytest.mark.parametrize("broken", ["scale", "keys"])
def test_what_no_loader_would_find_is_no_zero_adapter(workspace: Path, no_sampling: None, broken: str) -> None:
    folder = workspace / "adapters" / NAME / "0.1.0"
    if broken == "scale":
        (folder / CONFIG).write_text(json.dumps(json.loads((folder / CONFIG).read_text()) | {"lora_alpha": 0}))
    else:
        from safetensors.torch import load_file, save_file

        save_file(
            {name.replace("lora_B", "lora_up"): 0 * t for name, t in load_file(folder / WEIGHTS).items()},
            folder / WEIGHTS,
        )
    sign_again(workspace)
    with pytest.raises(NoEffect) as caught:
        run(workspace)
    assert caught.value.exit_code == 9 and not (workspace / ".resa-hub").exists()


@pytest.mark.slow
def test_an_adapter_whose_product_vanishes_is_identical_to_base(workspace: Path) -> None:
    """Its matrices are not zero, so reading them does not tell; no logit differs, so there is nothing to judge, with or
    without controls.
    """
    scale_weights(workspace, 1e-25, 1e-25)
    evaluation = run(workspace, EvalSettings(problems=20, samples=1, seeds=0, greedy=False))
    assert evaluation.verdict == "identical to base" and evaluation.gain == 0
    with pytest.raises(RunFailed, match="controls nothing"):
        run(workspace, EvalSettings(problems=20, samples=1, seeds=1, greedy=False))


@pytest.mark.slow
def test_what_was_chosen_on_problems_stays_marked_on_them(
    again: Path, no_sampling: None, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["eval", NAME, "--target", "tiny-r1", "--problems", "40", "--samples", "2", "--controls", "2"]
    arguments += ["--workspace", str(again), "--json"]
    assert command([*arguments, "--choosing"]) == 0
    assert json.loads(capsys.readouterr().out)["purpose"] == "model-selection"
    assert command(arguments) == 0
    later = json.loads(capsys.readouterr().out)
    assert later["purpose"] == "model-selection"
    assert "was chosen on these very problems (tiny-chain, test)" in " ".join(later["notes"])


@pytest.mark.slow
def test_without_controls_nothing_is_called_transferred(again: Path) -> None:
    assert run(again, EvalSettings(problems=20, samples=1, seeds=0, greedy=False)).verdict != "transferred"


@pytest.mark.parametrize(
    ("settings", "target", "name", "kind"),
    [
        (EvalSettings(problems=1), "tiny-r1", NAME, Usage),
        (EvalSettings(problems=10**6), "tiny-r1", NAME, Usage),
        (EvalSettings(samples=0), "tiny-r1", NAME, Usage),
        (EvalSettings(seeds=-1), "tiny-r1", NAME, Usage),
        (EvalSettings(split="exam"), "tiny-r1", NAME, Usage),
        (EvalSettings(benchmark="aime2024"), "tiny-r1", NAME, NotFound),
        (EvalSettings(arms=("sources",)), "tiny-r1", NAME, Usage),
        (EvalSettings(engines=Engines("tensorflow")), "tiny-r1", NAME, Usage),
        (EvalSettings(engines=Engines(workers=0)), "tiny-r1", NAME, Usage),
        (EvalSettings(new_tokens=0), "tiny-r1", NAME, Usage),
        (SMALL, "tiny-r1", "nobody", NotFound),
        (SMALL, "tiny-r7", NAME, NotFound),
        (SMALL, "tina-tiny", NAME, Usage),
    ],
    ids=str,
)
def test_mistakes_are_refused_before_anything_is_loaded(
    workspace: Path, no_sampling: None, settings: EvalSettings, target: str, name: str, kind: type
) -> None:
    with pytest.raises(kind) as caught:
        run(workspace, settings, target, name)
    assert caught.value.hint or kind is NotFound
