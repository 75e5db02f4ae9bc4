"""Recipes by name: every one of the paper resolves and has a plan, published scores stand beside ours."""

import json
from pathlib import Path
from typing import Any

import pytest

from resa_hub.cli.main import run
from resa_hub.config.registry import Registry
from resa_hub.core.errors import NotFound, Usage
from resa_hub.evaluation.published_scores import compare, entry_of, wilson
from resa_hub.extraction.describe import YOURS, describe, runnable
from resa_hub.extraction.estimate import Estimate, Shapes, estimate, measured_speed
from resa_hub.extraction.plan import plan
from tests.helpers.commands import out, resa_hub
from tests.helpers.registries import user as user


def every_recipe() -> list[str]:
    known = Registry()
    swept = [name for sweep in known.entries["sweeps"] for name in known.sweep_recipes(sweep)]
    return [row["recipe"] for row in runnable(known) if "{" not in row["recipe"]] + swept


# --- names


def test_the_systems_of_the_paper_are_there() -> None:
    names = every_recipe()
    wanted = (
        [f"resa-still-v{n}" for n in range(1, 6)]
        + [f"resa-deepscaler-v{n}" for n in range(1, 5)]
        + [f"still2{x}" for x in ("open-s1", "ii-thought", "open-r1")]
    )
    wanted += ["resa-qwen-math", "resa-qwen", "sft-no-cot", "sft-cot"] + [
        f"resa-still-v1-layer{n}" for n in range(1, 27)
    ]
    wanted += [f"resa-still-v1-step{n}" for n in (50, 100, 2000)] + ["resa-deepscaler-v1-step1000"]
    assert set(wanted) <= set(names) and len(names) == len(set(names))


def test_every_recipe_resolves_to_references_and_has_an_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resa_hub.extraction.estimate.measured_speed", lambda: 1e10)
    known = Registry()
    for name in every_recipe():
        found = describe(name, known)
        assert {field.path for field in found.fields} > {"source", "sae.k", "training.kl"} and all(
            field.origin for field in found.fields
        ), name
        assert {reference.role for reference in found.references} >= {"source", "target", "trigger", "elicit"}, name
        made = plan(recipe=name, registry=known)
        told = estimate(made, known)
        assert (
            isinstance(told, Estimate)
            and told.operations > 0
            and told.bytes > 0
            and all(offer.hours and offer.hours > 0 for offer in told.offers)
        ), name


def test_a_sweep_varies_one_value() -> None:
    known = Registry()
    first = known.recipe("resa-still-v1")
    import msgspec

    for layer in (1, 12, 26):
        assert known.recipe(f"resa-still-v1-layer{layer}") == msgspec.structs.replace(
            first, hookpoint=f"layers.{layer}"
        )
    step = plan(recipe="resa-still-v1-step100", registry=known)
    assert step.source.adapter and (step.source.adapter.id, step.source.adapter.subfolder) == (
        "Tina-Yi/R1-Distill-Qwen-1.5B-STILL",
        "checkpoint-100",
    )
    assert (
        plan(recipe="resa-still-v1-step2000", registry=known).source
        == plan(recipe="resa-still-v1", registry=known).source
    )
    assert step.name == "resa-still-v1-step100"
    for name in (
        "resa-still-v1-layer0",
        "resa-still-v1-layer27",
        "resa-still-v1-layer01",
        "resa-still-v1-step7",
        "resa-still-v1-layer",
    ):
        with pytest.raises(NotFound):
            known.recipe(name)


def test_another_checkpoint_of_a_source_is_a_source_of_unknown_cost() -> None:
    known = Registry()
    assert str(known.model("tina-still:checkpoint-50")).endswith("Tina-Yi/R1-Distill-Qwen-1.5B-STILL:checkpoint-50")
    entry, other, same = (known.model_entry(f"tina-still{tail}") for tail in ("", ":checkpoint-50", ":checkpoint-2000"))
    assert (
        entry
        and other
        and same
        and (entry.cost_usd, other.cost_usd, same.cost_usd) == (60, None, 60)
        and other.cost_note
    )
    assert plan("tina-still:checkpoint-50", registry=known).recipe.target == "r1-distill-1.5b"
    for wrong in ("r1-distill-1.5b:checkpoint-1", "tina-still:", "tina-still:../x"):
        with pytest.raises(Usage):
            known.model(wrong)
    with pytest.raises(NotFound, match="tina-stil"):
        known.model("tina-stil:checkpoint-1")


def test_costs_of_sources_are_those_of_the_facts() -> None:
    costs = {name: entry.value.cost_usd for name, entry in Registry().entries["models"].items() if entry.value.cost_usd}
    assert costs == {
        "tina-still": 60,
        "tina-deepscaler": 84,
        "still-3-1.5b-preview": 2268,
        "deepscaler-1.5b-preview": 3629,
    }


def test_recipe_show_says_who_says_what(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(out(capsys, "recipe", "show", "resa-still-v3", "--json"))
    said = {field["path"]: (field["value"], field["origin"]) for field in found["fields"]}
    assert said["sae.mode"] == ("scratch", "resa-still-v3") and said["source"] == ("tina-still", "resa-still-v1")
    assert said["sae.optimizer"] == ("signum", "reference-code") and said["sae.encoder"] == ("float32", "default")
    assert (
        found["like"] == ["resa-still-v1", "reference-code"]
        and found["digest"] == Registry().recipe("resa-still-v3").digest()
    )
    assert "SAE" not in {reference["role"] for reference in found["references"]}  # from scratch
    assert {reference["state"] for reference in found["references"]} == {"not pinned"}
    assert "embedded" in out(capsys, "recipe", "show", "tiny-feature-diff")
    assert (
        "resa-still-v1-layer{1-26}" in out(capsys, "recipe")
        and "resa-still-v1" in out(capsys, "recipe", "list", "-q").split()
    )


def test_a_fragment_or_a_file_as_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = json.loads(out(capsys, "recipe", "show", "paper", "--json"))
    assert {f["path"] for f in shown["fields"] if f["value"] == YOURS} == {
        "source",
        "target",
        "trigger.name",
        "elicit.name",
    }
    assert not shown["digest"] and not shown["references"]
    assert run(["extract", "--recipe", "paper", "--dry-run"]) == 2
    assert "source is missing" in capsys.readouterr().err
    assert run(["recipe", "show", "resa-stil-v1"]) == 3 and "did you mean resa-still-v1" in capsys.readouterr().err
    (tmp_path / "mine.yaml").write_text("like: tiny-sft\nseed: 3\n")
    assert json.loads(out(capsys, "recipe", "show", str(tmp_path / "mine.yaml"), "--json"))["name"].endswith(
        "mine.yaml"
    )


# --- the estimate


def told(name: str, *settings: str, rate: float | None = None) -> Estimate:
    known = Registry()
    found = estimate(plan(recipe=name, registry=known, settings=list(settings)), known, rate)
    assert isinstance(found, Estimate)
    return found


def test_the_plan_of_resa_still_v1_lands_on_the_papers_tokens() -> None:
    found = told("resa-still-v1")
    elicit = found.data["elicit"]
    assert elicit.batches == pytest.approx(2 * 1_448, rel=0.01) and elicit.tokens == pytest.approx(
        2 * 1_448 * 2_048, rel=0.01
    )
    sae, adapter = found.stages
    assert (sae.name, adapter.name, adapter.steps) == ("sae", "adapter", 2 * elicit.batches)
    assert sae.steps == elicit.tokens * 9 // 10 // 32_768
    assert found.offers[0].machine == "L40S" and 0.02 < (found.offers[0].usd or 0.0) < 1.0
    assert found.caches["the teacher's final states"] == elicit.tokens * 1_536 * 2
    assert any("1,448" in note for note in found.notes) and any("$60" in note for note in found.notes)
    doubled = told("resa-still-v1", "training.batch_rows=2").data["elicit"]
    assert doubled.batches == pytest.approx(1_448, rel=0.01)


@pytest.mark.parametrize(
    ("method", "recipe", "rate"),
    [
        (None, "resa-still-v1", 1e-6),
        ("gaussian", "resa-still-v1", 1e-6),
        ("feature-diff", "default-feature-diff", 5e-4),
        ("logit-distill", "default-feature-diff", 5e-4),
        ("sft", "default-sft", 1e-4),
    ],
)
def test_a_method_of_another_kind_than_the_sources_recipe_has_settings_of_its_own(
    method: str | None, recipe: str, rate: float
) -> None:
    """The paper's learning rate, a five-hundredth of what distilling needs, would make an adapter that does nothing."""
    made = plan("tina-still", method=method, registry=Registry(None))
    assert (made.recipe_name, made.recipe.training.learning_rate) == (recipe, rate)
    assert made.recipe.elicit.name == "still" and made.recipe.target == "r1-distill-1.5b"
    if made.recipe.rollouts:
        assert made.recipe.rollouts.new_tokens == 512


def test_an_mlp_hookpoint_trains_the_whole_student_and_pretrained_needs_no_stage_one() -> None:
    code, paper = told("resa-still-v1"), told("resa-still-v1-paper")
    assert paper.stages[1].operations > 1.3 * code.stages[1].operations and len(paper.caches) < len(code.caches)
    assert told("resa-still-v2").stages[0].steps == 0


def test_shapes_give_the_facts_of_qwen_1_5b() -> None:
    """facts/tiny.md: 0.467 of 3.09 GFLOP a token are the head's; 65,536 latents of width 1,536 are 806 MB."""
    shapes = Shapes.of(Registry().get("models", "r1-distill-1.5b").config)
    assert shapes and 2 * shapes.sizes.head == pytest.approx(0.467e9, rel=1e-3)
    assert 2 * (shapes.sizes.all + shapes.sizes.head) == pytest.approx(3.09e9, rel=1e-3)
    assert told("resa-still-v1").memory["SAE"] == pytest.approx(806e6, rel=2e-3)
    assert Shapes.of({"n_embd": 8}) is None


@pytest.mark.slow
def test_what_is_at_hand_is_counted_exactly(tmp_path: Path) -> None:
    """Tokens, steps and operations of the plan are those of the run."""
    from resa_hub.core.progress import Progress
    from resa_hub.extraction.extract import extract

    settings = ["sae.steps=20", "sae.latents=256", "training.epochs=1", "trigger.rows=128", "elicit.rows=128"]
    for method in ("sft", "sae-tuning"):
        known = Registry()
        made = plan("tina-tiny", method=method, settings=settings, registry=known)
        found = estimate(made, known)
        assert isinstance(found, Estimate) and {data.basis for data in found.data.values()} == {"counted"}
        costs = extract(plan=made, workspace=tmp_path, progress=Progress(quiet=True))[0].manifest.run.costs
        for stage in found.stages:
            assert costs[stage.name].operations == pytest.approx(
                stage.operations, rel=0.08 if stage.name == "sae" else 0.03
            ), (method, stage.name)
        assert costs["adapter"].tokens == found.stages[-1].tokens


@pytest.mark.slow
def test_selection_by_the_logits_is_foretold(tmp_path: Path) -> None:
    """A look a step and one for the rest, each through the layers above; by attribution one look, by the mean none."""
    from resa_hub.core.progress import Progress
    from resa_hub.extraction.extract import extract

    known, settings = (
        Registry(),
        [
            "sae.steps=20",
            "sae.latents=256",
            "training.epochs=1",
            "rollouts.count=512",
            "features=8",
            "hookpoint=layers.1",
        ],
    )

    def stages(selection: str) -> dict[str, Any]:
        told = estimate(
            plan("tina-tiny", method="feature-diff", settings=[*settings, f"selection={selection}"], registry=known),
            known,
        )
        assert isinstance(told, Estimate)
        return {stage.name: stage for stage in told.stages}

    found = stages("logits")
    assert list(found) == ["rollouts", "sae", "selection", "adapter"] and "selection" not in stages("mean")
    assert found["selection"].steps == 9 and stages("attribution")["selection"].steps == 1
    made = plan("tina-tiny", method="feature-diff", settings=[*settings, "selection=logits"], registry=known)
    cost = extract(plan=made, workspace=tmp_path, progress=Progress(quiet=True))[0].manifest.run.costs["selection"]
    assert cost.tokens == pytest.approx(found["selection"].tokens, rel=0.1)
    assert cost.operations / cost.tokens == pytest.approx(
        found["selection"].operations / found["selection"].tokens, rel=0.03
    )


def test_rate_and_unknowns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert all(
        offer.usd == pytest.approx(3 * (offer.hours or 0)) for offer in told("resa-still-v1", rate=3.0).offers[:4]
    )
    known = Registry()
    for arguments, said in (({"target": "o/n"}, "sizes of o/n"), ({"elicit": "o/data"}, "rows of o/data")):
        found = estimate(plan(recipe="resa-still-v1", registry=known, **arguments), known)  # pyright: ignore[reportArgumentType]
        assert isinstance(found, str) and said in found
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"problem": "x" * 400, "answer": "1"}) for _ in range(100)))
    local = estimate(plan(recipe="resa-still-v1", registry=known, trigger=str(rows)), known)
    assert (
        isinstance(local, Estimate)
        and local.data["elicit"].rows == 100
        and "four characters" in local.data["elicit"].basis
    )
    assert 1e8 < measured_speed(0.05) < 1e14
    document = json.loads(out(capsys, "extract", "--recipe", "resa-still-v1", "--dry-run", "--json"))
    assert (
        document["estimate"]["stages"][1]["steps"] > 5_000
        and len(document["references"]) == 6
        and len(document["estimate"]["offers"]) == 5
    )


def test_the_plan_needs_no_network_and_fetches_nothing(tmp_path: Path) -> None:
    home = tmp_path / "hf"
    done = resa_hub(
        "extract",
        "--source",
        "tina-still",
        "--method",
        "feature-diff",
        "--dry-run",
        cwd=tmp_path,
        HF_ENDPOINT="http://127.0.0.1:9",
        HF_HOME=str(home),
    )
    assert done.returncode == 0 and "H100" in done.stdout and not home.exists() and not list(tmp_path.glob("*"))


# --- published scores


def evaluation(benchmark: str, score: Any, interval: Any = None) -> dict[str, Any]:
    arms = [{"role": "base", "score": 1.0}, {"role": "adapter", "score": score, "score_ci": interval}]
    return {
        "verdict": "null",
        "sentence": "",
        "target": "r1-distill-1.5b",
        "benchmark": benchmark,
        "split": "full",
        "samples": 16,
        "problems": 30,
        "arms": arms,
    }


def test_published_scores_stand_beside_ours_with_their_noise() -> None:
    known, recipe = Registry(), Registry().recipe("resa-still-v1")
    lines = {
        line.benchmark: line
        for line in compare(
            "resa-still-v1", None, [evaluation("aime24", 28.7, [25.0, 32.0]), evaluation("math500", 70.0)], known
        )
    }
    assert set(lines) == {"aime24", "aime25", "amc23", "math500", "gpqa-diamond", "minerva"}
    aime = lines["aime24"]
    assert (aime.published, aime.ours, aime.problems) == (33.33, 28.7, 30) and aime.interval == pytest.approx(
        (19.2, 51.2), abs=0.1
    )
    assert (
        "33.3 [19, 51], one sample of 30 problems; ours 28.7 [25.0, 32.0]" in aime.sentence
        and "inside" in aime.sentence
    )
    assert "outside its interval" in lines["math500"].sentence and "not measured" in lines["minerva"].sentence
    assert (
        entry_of("my-own-name", recipe, known) == entry_of("resa-still-v1", None, known)
        and entry_of("my-own-name", None, known) is None
    )
    assert compare("nobody", None, [], known) == []
    assert (
        compare("resa-still-v1", None, [evaluation("aime24", "many"), {"benchmark": "aime24"}], known)[0].ours is None
    )


def test_the_interval_is_wilsons() -> None:
    from statsmodels.stats.proportion import proportion_confint

    for share, count in ((10, 30), (0, 30), (30, 30), (419, 500)):
        low, high = proportion_confint(share, count, method="wilson")
        assert wilson(100 * share / count, count) == pytest.approx((100 * low, 100 * high), abs=0.01)
