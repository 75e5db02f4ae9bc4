"""The built-in registry: its names are those of the facts, whole and true, and what they name is there."""

from typing import Any

import pytest
import yaml
from msgspec import to_builtins

from resa_hub.config.recipe import Recipe
from resa_hub.config.refs import check_hookpoint, check_name
from resa_hub.config.registry import builtin_path, deep_merge
from resa_hub.config.schema import KINDS, BenchmarkEntry, PublishedEntry
from resa_hub.core.strict import structure
from resa_hub.data import tiny
from resa_hub.extraction.describe import flat
from tests.helpers.registries import builtin
from tests.helpers.registries import user as user

FRAGMENTS = {"paper", "reference-code", "default-sae-tuning", "default-feature-diff", "default-sft"}
"""Hyperparameters only: recipes are `like` them."""

HUB_IDS = {
    "models": {
        "r1-distill-1.5b": "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",
        "qwen-math-1.5b": "Qwen/Qwen2.5-Math-1.5B",
        "qwen-1.5b": "Qwen/Qwen2.5-1.5B",
        "tina-still": "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B+Tina-Yi/R1-Distill-Qwen-1.5B-STILL:checkpoint-2000",
        "tina-deepscaler": (
            "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B+Tina-Yi/R1-Distill-Qwen-1.5B-DeepScaleR:checkpoint-1000"
        ),
        "still-3-1.5b-preview": "RUC-AIBOX/STILL-3-1.5B-preview",
        "deepscaler-1.5b-preview": "agentica-org/DeepScaleR-1.5B-Preview",
        "tina-openr1": "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B+Tina-Yi/R1-Distill-Qwen-1.5B-OpenR1",
        "tiny-base": "resa-hub/tiny-base",
        "tiny-math": "resa-hub/tiny-math",
        "tiny-r1": "resa-hub/tiny-r1",
        "tiny-r1b": "resa-hub/tiny-r1b",
        "tina-tiny": "resa-hub/tiny-r1+resa-hub/tina-tiny",
    },
    "saes": {"sae-r1-65k": "EleutherAI/sae-DeepSeek-R1-Distill-Qwen-1.5B-65k"},
    "datasets": {
        "tiny-chain": "resa-hub/tiny-chain",
        "still": "RUC-AIBOX/STILL-3-Preview-RL-Data",
        "deepscaler": "agentica-org/DeepScaleR-Preview-Dataset",
        "open-s1": "knoveleng/open-s1",
        "open-rs": "knoveleng/open-rs",
        "ii-thought": "Intelligent-Internet/II-Thought-RL-v0-Math-50K",
        "open-r1": "open-r1/OpenR1-Math-220k",
    },
    "benchmarks": {
        "tiny-chain": "resa-hub/tiny-chain",
        "aime24": "HuggingFaceH4/aime_2024",
        "aime25": "yentinglin/aime_2025",
        "amc23": "knoveleng/AMC-23",
        "math500": "HuggingFaceH4/MATH-500",
        "minerva": "knoveleng/Minerva-Math",
        "gpqa-diamond": "Idavidrein/gpqa",
        "olympiadbench": "knoveleng/OlympiadBench",
        "gsm8k": "openai/gsm8k",
        "champ": "package:champ-dataset",
        "reasoning-gym": "package:reasoning-gym",
    },
}
PROBLEMS = {"aime24": 30, "aime25": 30, "amc23": 40, "math500": 500, "minerva": 272, "gpqa-diamond": 198}

RECIPES = {
    "resa-still-v1": ("tina-still", "r1-distill-1.5b", "finetuned", "still", "still"),
    "resa-still-v2": ("r1-distill-1.5b", "r1-distill-1.5b", "pretrained", "still", "still"),
    "resa-still-v3": ("tina-still", "r1-distill-1.5b", "scratch", "still", "still"),
    "resa-still-v4": ("r1-distill-1.5b", "r1-distill-1.5b", "finetuned", "still", "still"),
    "resa-still-v5": ("r1-distill-1.5b", "r1-distill-1.5b", "scratch", "still", "still"),
    "resa-still-v1-paper": ("tina-still", "r1-distill-1.5b", "finetuned", "still", "still"),
    "resa-deepscaler-v1": ("tina-deepscaler", "r1-distill-1.5b", "finetuned", "deepscaler", "deepscaler"),
    "resa-deepscaler-v2": ("tina-deepscaler", "r1-distill-1.5b", "scratch", "deepscaler", "deepscaler"),
    "resa-deepscaler-v3": ("r1-distill-1.5b", "r1-distill-1.5b", "scratch", "deepscaler", "deepscaler"),
    "resa-deepscaler-v4": ("tina-still", "r1-distill-1.5b", "finetuned", "still", "deepscaler"),
    "still2open-s1": ("tina-still", "r1-distill-1.5b", "finetuned", "still", "open-s1"),
    "still2ii-thought": ("tina-still", "r1-distill-1.5b", "finetuned", "still", "ii-thought"),
    "still2open-r1": ("tina-still", "r1-distill-1.5b", "finetuned", "still", "open-r1"),
    "resa-qwen-math": ("tina-still", "qwen-math-1.5b", "finetuned", "still", "still"),
    "resa-qwen": ("tina-still", "qwen-1.5b", "finetuned", "still", "still"),
    "sft-no-cot": ("r1-distill-1.5b", "r1-distill-1.5b", "scratch", "still", "still"),
    "sft-no-cot-deepscaler": ("r1-distill-1.5b", "r1-distill-1.5b", "scratch", "deepscaler", "deepscaler"),
    "sft-cot": ("r1-distill-1.5b", "r1-distill-1.5b", "scratch", "deepscaler", "deepscaler"),
    "sft-cot-open-r1": ("r1-distill-1.5b", "r1-distill-1.5b", "scratch", "open-r1", "open-r1"),
    "tiny-sft": ("tina-tiny", "tiny-r1", "scratch", "tiny-chain", "tiny-chain"),
    "tiny-sft-cot": ("tina-tiny", "tiny-r1", "scratch", "tiny-chain", "tiny-chain"),
    "tiny-sae-tuning": ("tina-tiny", "tiny-r1", "scratch", "tiny-chain", "tiny-chain"),
    "tiny-feature-diff": ("tina-tiny", "tiny-r1", "scratch", "tiny-chain", "tiny-chain"),
    "tiny-feature-diff-16": ("tina-tiny", "tiny-r1", "scratch", "tiny-chain", "tiny-chain"),
}
"""(source, target, SAE mode, trigger, elicit)."""

AVERAGES = {
    "r1-distill-1.5b": 41.18,
    "r1-distill-1.5b-10-seeds": 45.3,
    "still-3-1.5b-preview": 44.86,
    "deepscaler-1.5b-preview": 48.74,
    "tina-still": 48.16,
    "tina-deepscaler": 48.38,
    "resa-still-v1": 47.28,
    "resa-still-v2": 44.99,
    "resa-still-v3": 47.36,
    "resa-still-v4": 44.73,
    "resa-still-v5": 48.06,
    "resa-deepscaler-v1": 48.95,
    "resa-deepscaler-v2": 48.75,
    "resa-deepscaler-v3": 47.41,
    "resa-deepscaler-v4": 48.77,
    "still2open-s1": 48.72,
    "still2ii-thought": 48.61,
    "still2open-r1": 49.46,
    "resa-qwen-math": 47.86,
    "resa-qwen": 47.54,
    "sft-no-cot": 39.00,
}


def values(kind: str) -> dict[str, Any]:
    return {name: entry.value for name, entry in builtin().entries[kind].items()}


def runnable() -> dict[str, Recipe]:
    return {name: builtin().recipe(name) for name in values("recipes") if name not in FRAGMENTS}


def test_every_name_of_the_facts_is_there_and_no_other() -> None:
    assert {name: str(builtin().model(name)) for name in values("models")} == HUB_IDS["models"]
    for kind in ("saes", "datasets", "benchmarks"):
        assert {name: value.id for name, value in values(kind).items()} == HUB_IDS[kind]
    assert {name: value.average for name, value in values("published").items()} == AVERAGES


def test_names_are_names_and_stand_once() -> None:
    for section, entries in yaml.compose(builtin_path().read_text(encoding="utf-8"), yaml.SafeLoader).value:  # pyright: ignore[reportOptionalMemberAccess]
        names = [key.value for key, _ in entries.value]
        assert section.value in KINDS
        assert len(names) == len(set(names)), f"a name stands twice in {section.value}: YAML keeps the last"
        for name in names:
            check_name(name)


def test_no_revision_is_invented() -> None:
    """Nobody looked a commit up, so none is written."""
    assert "revision:" not in builtin_path().read_text(encoding="utf-8")


def test_recipes_are_those_of_the_facts() -> None:
    found = {name: (r.source, r.target, r.sae.mode, r.trigger.name, r.elicit.name) for name, r in runnable().items()}
    assert found == RECIPES


def test_references_of_recipes_resolve() -> None:
    saes = values("saes")
    for name, recipe in runnable().items():
        assert {recipe.source, recipe.target} <= set(values("models")), name
        assert {recipe.trigger.name, recipe.elicit.name} <= set(values("datasets")), name
        assert (recipe.sae.origin is None) == (recipe.sae.mode == "scratch"), name
        if recipe.sae.origin:
            assert (saes[recipe.sae.origin].latents, saes[recipe.sae.origin].k) == (recipe.sae.latents, recipe.sae.k), (
                name
            )
        check_hookpoint(recipe.hookpoint)


def test_references_of_models_saes_and_results_resolve() -> None:
    models, recipes = values("models"), values("recipes")
    for name, model in models.items():
        assert (model.id is None) == (model.base is not None) == (model.adapter is not None), name
        assert {*model.recipes.values(), model.default_adapter} - {None} <= set(recipes) - FRAGMENTS, name
        for method, recipe in model.recipes.items():
            resolved = builtin().recipe(recipe)
            assert (resolved.method, resolved.source, resolved.target) == (method, name, model.base)
    assert {sae.base for sae in values("saes").values()} <= set(models)
    for name, result in values("published").items():
        assert set(result.scores) <= set(values("benchmarks")), name


def test_defaults_of_the_command_line() -> None:
    models = values("models")
    assert models["tina-still"].recipes == {"sae-tuning": "resa-still-v1"}
    assert models["tina-deepscaler"].recipes == {"sae-tuning": "resa-deepscaler-v1"}
    assert list(models["tina-tiny"].recipes.values()) == ["tiny-sae-tuning", "tiny-feature-diff", "tiny-sft"]
    assert models["r1-distill-1.5b"].default_adapter == "resa-still-v1"
    assert models["r1-distill-1.5b"].template == "r1"


def test_tiny_models_are_in_the_package() -> None:
    for name in ("tiny-base", "tiny-math", "tiny-r1", "tiny-r1b", "tina-tiny"):
        ref = builtin().model(name)
        assert tiny.locate(ref.base.id)
        assert ref.adapter is None or tiny.locate(ref.adapter.id)


DIFFERENCES: dict[str, tuple[Any, Any]] = {
    "hookpoint": ("layers.12.mlp", "layers.12"),
    "template": ("r1", "r1-code"),
    "sae.learning_rate": (2.5e-4, None),
    "sae.any_hookpoint": (False, True),
    "lora.modules": (
        ("q_proj", "k_proj", "v_proj"),
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    ),
    "training.schedule": ("cosine", "constant"),
    "training.kl": ("student-teacher", "teacher-student"),
    "seed": (0, 42),
}
"""Everything in which (the paper, the reference code) differ."""


def test_variants_follow_the_table() -> None:
    code, paper = builtin().recipe("resa-still-v1"), builtin().recipe("resa-still-v1-paper")
    said = dict(flat(to_builtins(code)))
    assert {path: (value, said[path]) for path, value in flat(to_builtins(paper)) if value != said[path]} == DIFFERENCES
    assert code.sae.rate == pytest.approx(5e-3 / (65_536 / 2**14) ** 0.5) == 2.5e-3  # sparsify's rule
    for recipe in (code, paper):
        assert (recipe.sae.optimizer, recipe.sae.k, recipe.sae.latents, recipe.sae.batch_tokens) == (
            "signum",
            32,
            65_536,
            16 * 2_048,
        )
        assert (recipe.training.reduction, recipe.training.chunk_tokens, recipe.sae.skip_first) == ("sum", 2_048, False)
        assert (recipe.lora.rank, recipe.lora.alpha, recipe.lora.dropout) == (32, 128, 0.05)
        assert (recipe.training.learning_rate, recipe.training.epochs, recipe.training.batch_rows) == (1e-6, 2, 1)


def test_published_recipes_follow_the_reference_code() -> None:
    fragment = builtin().recipe_values("reference-code")
    for name in set(AVERAGES) & set(RECIPES) - {"sft-no-cot"}:
        recipe = builtin().recipe_values(name)
        assert deep_merge(recipe, fragment) == recipe, name


SFT = {
    "method": "sft",
    "sae.mode": "scratch",
    "training.learning_rate": 1e-5,
    "training.epochs": 3,
    "training.batch_rows": 16,
    "training.schedule": "linear",
    "training.warmup": 0.05,
    "training.weight_decay": 0,
    "training.reduction": "mean",
    "training.chunk_tokens": None,
    "training.max_tokens": 2_048,
}
"""Everything in which the SFT baselines of the reference code differ from its SAE-Tuning, who and what aside."""


def test_the_sft_baselines_follow_the_table() -> None:
    code = dict(flat(to_builtins(structure(builtin().recipe_values("resa-still-v3"), Recipe, "x"))))
    for name in ("sft-no-cot", "sft-no-cot-deepscaler", "sft-cot", "sft-cot-open-r1"):
        said = dict(flat(to_builtins(builtin().recipe(name))))
        differs = {
            path: value
            for path, value in said.items()
            if value != code[path] and not path.startswith(("source", "trigger", "elicit"))
        }
        assert differs | {"sae.mode": "scratch"} == SFT, name
        assert said["elicit.cot"] == name.startswith("sft-cot")


def test_any_recipe_becomes_the_other_variant_by_laying_the_fragment_over_it() -> None:
    values = deep_merge(builtin().recipe_values("resa-still-v1"), builtin().recipe_values("paper"))
    over = structure(values, Recipe, "x")
    paper = builtin().recipe("resa-still-v1-paper")
    assert (over.hookpoint, over.lora, over.training, over.sae, over.source) == (
        paper.hookpoint,
        paper.lora,
        paper.training,
        paper.sae,
        paper.source,
    )


def test_the_tiny_recipes_say_everything_that_was_measured() -> None:
    tuning, diff = builtin().recipe("tiny-sae-tuning"), builtin().recipe("tiny-feature-diff")
    assert (tuning.method, tuning.rollouts, tuning.training.epochs) == ("sae-tuning", None, 2)
    assert (diff.method, diff.features, diff.training.epochs) == ("feature-diff", 64, 3)
    assert diff.rollouts and (diff.rollouts.count, diff.rollouts.temperature, diff.rollouts.new_tokens) == (
        1024,
        1.0,
        64,
    )
    for recipe in (tuning, diff):
        assert (recipe.hookpoint, recipe.dtype, recipe.seed, recipe.training.learning_rate) == (
            "layers.2",
            "float32",
            0,
            1e-3,
        )
        assert (
            recipe.sae.latents,
            recipe.sae.k,
            recipe.sae.steps,
            recipe.sae.learning_rate,
            recipe.sae.batch_tokens,
        ) == (1024, 16, 300, 2e-3, 1024)
        assert (recipe.trigger.rows, recipe.trigger.seed, recipe.elicit) == (2048, 21, recipe.trigger)
        assert (recipe.lora.dropout, recipe.training.batch_rows, recipe.training.chunk_tokens) == (0.0, 32, None)
    few = builtin().recipe("tiny-feature-diff-16")
    assert (few.features, few.selection, few.scale, few.sae.latents, few.sae.k) == (16, "logits", 1.5, 256, 8)
    assert (few.training, few.rollouts, few.hookpoint) == (diff.training, diff.rollouts, diff.hookpoint)


def test_benchmarks() -> None:
    benchmarks: dict[str, BenchmarkEntry] = values("benchmarks")
    assert {name: benchmarks[name].problems for name in PROBLEMS} == PROBLEMS
    assert {name for name, benchmark in benchmarks.items() if benchmark.gated} == {"gpqa-diamond"}
    assert {name: benchmark.grading for name, benchmark in benchmarks.items() if benchmark.grading != "math"} == {
        "tiny-chain": "answer-tag",
        "aime24": "integer",
        "aime25": "integer",
        "gsm8k": "integer",
        "champ": "integer",
        "reasoning-gym": "answer-tag",
        "gpqa-diamond": "choice",
    }


def test_averages_are_the_mean_of_the_six_scores() -> None:
    six = {name: result for name, result in values("published").items() if set(result.scores) == set(PROBLEMS)}
    assert len(six) == 17
    for name, result in six.items():
        assert result.average == pytest.approx(sum(result.scores.values()) / 6, abs=0.01), name


def test_scores_are_whole_numbers_of_problems() -> None:
    """One sample a problem: every score is k/n. That is what shows the exchange of GPQA and Minerva in the paper."""
    odd = {
        (name, benchmark)
        for name, result in values("published").items()
        if name != "r1-distill-1.5b-10-seeds"
        for benchmark, score in result.scores.items()
        if abs(100 * round(score * PROBLEMS[benchmark] / 100) / PROBLEMS[benchmark] - score) > 0.0051
    }
    assert odd == {("sft-no-cot", "gpqa-diamond")}  # 26.36 as printed; 52 of 198 are 26.26


def test_published_results_name_their_paper() -> None:
    results: dict[str, PublishedEntry] = values("published")
    assert {result.source for result in results.values()} == {
        "arXiv 2506.09967 v2",
        "arXiv 2504.15777",
        "arXiv 2504.07086",
    }
    assert all(result.recipe for result in results.values())
