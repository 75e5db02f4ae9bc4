"""What a mistyped key is thought to have meant."""

import pytest

from resa_hub.config.recipe import Recipe, override
from resa_hub.core.errors import Usage
from resa_hub.core.schema_errors import first_mistake, key_paths

VALUES = {"source": "a", "target": "b", "trigger": {"name": "x"}, "elicit": {"name": "x"}}


def test_the_keys_of_a_recipe_are_those_that_it_reads() -> None:
    keys = list(key_paths(Recipe))
    assert {"training", "training.learning_rate", "rollouts.count", "screen.layers", "dtype"} <= set(keys)
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("training.lr", "training.learning_rate"),
        ("sae.lr", "sae.learning_rate"),
        ("lr", "sae.learning_rate or training.learning_rate"),
        ("sea.k", "sae.k"),
        ("training.k", "sae.k"),
        ("epochs", "sae.epochs or training.epochs"),
        ("training.epoch", "training.epochs"),
        ("training.wd", "training.weight_decay"),
        ("training.batch_size", "training.batch_rows"),
        ("sae.batch_size", "sae.batch_tokens"),
        ("rollouts.temp", "rollouts.temperature"),
        ("rollouts.max_new_tokens", "rollouts.new_tokens"),
        ("lora.r", "lora.rank"),
        ("lora.target_modules", "lora.modules"),
        ("sae.num_latents", "sae.latents"),
        ("layer", "hookpoint"),
        ("learn_rate", "sae.learning_rate or training.learning_rate"),
        ("Training.Epochs", "training.epochs"),
        ("elicit.row", "elicit.rows"),
        ("sed", "seed"),
    ],
)
def test_a_key_of_no_recipe_names_the_nearest(key: str, meant: str) -> None:
    with pytest.raises(Usage) as caught:
        override(VALUES, [f"{key}=1"])
    assert caught.value.message == f"--set {key}: a recipe has no such key"
    assert caught.value.hint == f"did you mean {meant}?"


def test_a_key_like_no_other_names_what_there_is() -> None:
    with pytest.raises(Usage) as caught:
        override(VALUES, ["zzz=1"])
    assert caught.value.hint.startswith("known: method, source, target")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("sae.k=0", "sae.k must be a whole number of at least 1, not 0"),
        ("sae.k=many", "sae.k must be a whole number, not the text 'many'"),
        ("sae.k=1.5", "sae.k must be a whole number, not 1.5"),
        ("sae.k=null", "sae.k must be a whole number, not null"),
        ("lora.dropout=1", "lora.dropout must be a number below 1, not 1"),
        ("seed=true", "seed must be a whole number, not true"),
        ("sae.skip_first=no one", "sae.skip_first must be true or false, not the text 'no one'"),
        ("sae.learning_rate=fast", "sae.learning_rate must be a number or null, not the text 'fast'"),
        ("selection=best", "selection must be mean, attribution or logits, not the text 'best'"),
        ("screen.scales=[0]", "screen.scales.0 must be a number above 0, not 0"),
        ("rollouts.siblings=tiny-r1b", "rollouts.siblings must be a list, not the text 'tiny-r1b'"),
        ("training={lr: 3}", "training.lr is no known field"),
        ("training.learning_rate=nan", "training.learning_rate: nan is no finite number"),
    ],
)
def test_a_value_that_cannot_be_names_its_key_and_what_may_stand_there(setting: str, said: str) -> None:
    with pytest.raises(Usage) as caught:
        override(VALUES, [setting])
    assert caught.value.message == f"--set {said}" and caught.value.hint


def test_what_is_right_is_no_mistake() -> None:
    assert first_mistake(VALUES, Recipe) is None
    assert first_mistake({"training": {"epochs": 3}}, Recipe, partial=True) is None
    assert str(first_mistake({"training": {"epochs": 3}}, Recipe)) == "source is missing"
    assert str(first_mistake({1: 2}, Recipe)) == "it must have keys that are text"
