"""The recipe: strict, frozen, and its digest is its identity."""

from typing import Any

import pytest
from msgspec import to_builtins

from resa_hub.config.recipe import Data, LoraSettings, Recipe, Rollouts, SaeSettings, Training, override
from resa_hub.core.errors import Usage
from resa_hub.core.strict import structure

RECIPE = Recipe(
    source="tina-tiny",
    target="tiny-r1",
    trigger=Data(name="tiny-chain"),
    elicit=Data(name="tiny-chain"),
    rollouts=Rollouts(),
)

OTHER = {
    "method": "feature-diff",
    "source": "tiny-r1b",
    "target": "tiny-r1b",
    "template": "r1",
    "hookpoint": "layers.2",
    "trigger.name": "still",
    "trigger.rows": 7,
    "trigger.seed": 7,
    "trigger.cot": "true",
    "elicit.name": "still",
    "elicit.rows": 7,
    "elicit.seed": 7,
    "elicit.cot": "true",
    "sae.mode": "scratch",
    "sae.origin": "sae-r1-65k",
    "sae.any_hookpoint": "true",
    "sae.reset_bias": "true",
    "sae.accept_bad": "true",
    "sae.optimizer": "signum",
    "sae.encoder": "bfloat16",
    "sae.skip_first": "false",
    "sae.latents": 7,
    "sae.k": 7,
    "sae.learning_rate": 0.5,
    "sae.batch_tokens": 7,
    "sae.epochs": 0.5,
    "sae.steps": 7,
    "lora.rank": 7,
    "lora.alpha": 7,
    "lora.dropout": 0.5,
    "lora.modules": "[q_proj]",
    "training.learning_rate": 0.5,
    "training.epochs": 7,
    "training.batch_rows": 7,
    "training.gradient_clip": 0.5,
    "training.schedule": "cosine",
    "training.warmup": 0.5,
    "training.weight_decay": 0.5,
    "training.max_tokens": 7,
    "training.kl": "student-teacher",
    "training.reduction": "mean",
    "training.chunk_tokens": "null",
    "training.mask_prompt": "true",
    "rollouts.count": 7,
    "rollouts.temperature": 0.5,
    "rollouts.new_tokens": 7,
    "rollouts.of_source": "false",
    "rollouts.siblings": "[tiny-r1b]",
    "rollouts.difference": "sibling",
    "rollouts.student": "writer",
    "rollouts.source_share": 0.5,
    "hookpoints": "[layers.1]",
    "screen": "{rollouts: 7}",
    "rounds": 7,
    "norm_of": "mine@0.1.0",
    "norm": 0.5,
    "features": 7,
    "selection": "attribution",
    "scale": 0.5,
    "dtype": "float32",
    "seed": 7,
}
"""Every field, and a value that is not RECIPE's."""


def leaves(values: dict[str, Any], prefix: str = "") -> set[str]:
    return {
        leaf
        for key, value in values.items()
        for leaf in (leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key})
    }


def changed(*settings: str, recipe: Recipe = RECIPE) -> Recipe:
    return structure(override(to_builtins(recipe), list(settings)), Recipe, "recipe test")


def test_digest_is_golden() -> None:
    """It stands in manifests: a change of this value makes every published adapter look like another recipe."""
    assert RECIPE.digest() == "sha256:380e439f33106ecd3af074a9629cb1ea4c275b2d6e9cb2877f3397f54d28a7c1"


def test_digest_survives_writing_and_reading() -> None:
    assert structure(to_builtins(RECIPE), Recipe, "x") == RECIPE
    assert structure(to_builtins(RECIPE), Recipe, "x").digest() == RECIPE.digest()


def test_digest_ignores_the_order_of_keys() -> None:
    assert structure(dict(reversed(to_builtins(RECIPE).items())), Recipe, "x").digest() == RECIPE.digest()


def test_digest_sees_every_field() -> None:
    assert leaves(to_builtins(RECIPE)) == set(OTHER), "a field without a value in OTHER"
    digests = {changed(f"{path}={value}").digest() for path, value in OTHER.items()}
    assert len(digests | {RECIPE.digest()}) == len(OTHER) + 1


def test_whole_and_real_numbers_are_one_value() -> None:
    values = to_builtins(RECIPE)
    values["scale"], values["sae"]["epochs"] = 1, 1
    assert structure(values, Recipe, "x").digest() == RECIPE.digest()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("training.learning_rate=1e-4", 1e-4),
        ("training.learning_rate=1.0e-4", 1e-4),
        ("training.learning_rate=1", 1.0),
        ("training.epochs=3", 3),
        ("sae.batch_tokens=1e3", 1000),
        ("sae.steps=null", None),
        ("sae.mode=scratch", "scratch"),
        ("rollouts.of_source=false", False),
        ("lora.modules=[q_proj, v_proj]", ("q_proj", "v_proj")),
    ],
)
def test_override_reads_values_as_people_write_them(setting: str, value: object) -> None:
    found: Any = changed(setting)
    for part in setting.partition("=")[0].split("."):
        found = getattr(found, part)
    assert (found, type(found)) == (value, type(value))


def test_override_leaves_its_argument_alone() -> None:
    values = to_builtins(RECIPE)
    override(values, ["training.epochs=9"])
    assert values == to_builtins(RECIPE)


def test_override_makes_a_part_that_is_null() -> None:
    without = structure({**to_builtins(RECIPE), "rollouts": None}, Recipe, "x")
    assert changed("rollouts.count=5", recipe=without).rollouts == Rollouts(count=5)


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("trainig.epochs=1", "trainig"),
        ("training.lr=1", "lr"),
        ("seed=true", "seed"),
        ("seed=1.5", "seed"),
        ("lora.rank=many", "rank"),
        ("method=magic", "method"),
        ("training=null", "training"),
        ("source=null", "source"),
        ("training.learning_rate=nan", "training.learning_rate"),
        ("training.learning_rate=.inf", "training.learning_rate"),
        ("source.name=x", "source"),
        ("seed", "seed"),
        ("=1", "=1"),
        ("seed=[1", "seed"),
        ("seed=2025-99-99", "seed"),
    ],
)
def test_what_cannot_be_is_a_usage_error_that_names_it(setting: str, named: str) -> None:
    with pytest.raises(Usage) as caught:
        changed(setting)
    assert named in caught.value.message


def test_a_recipe_needs_source_target_and_data() -> None:
    for missing in ("source", "target", "trigger", "elicit"):
        values = to_builtins(RECIPE)
        del values[missing]
        with pytest.raises(Usage, match=missing):
            structure(values, Recipe, "x")


def test_defaults_are_the_reference_code() -> None:
    """facts: SAE of 65,536 latents, k=32; LoRA r=32, alpha 128, dropout 0.05 on seven modules; AdamW 1e-6, constant, 2
    epochs, clip 1.0.
    """
    assert SaeSettings() == SaeSettings(latents=65_536, k=32, batch_tokens=16 * 2_048)
    assert LoraSettings() == LoraSettings(
        rank=32,
        alpha=128,
        dropout=0.05,
        modules=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    )
    assert Training() == Training(
        learning_rate=1e-6,
        epochs=2,
        batch_rows=1,
        gradient_clip=1.0,
        schedule="constant",
        kl="teacher-student",
        chunk_tokens=2_048,
    )
