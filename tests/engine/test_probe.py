"""The effect of an adapter: in float32 whatever the model is held in, and told apart from rounding."""

import copy
import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerFast

from resa_hub.adapter.layout import MANIFEST
from resa_hub.adapter.store import Adapter
from resa_hub.config.recipe import LoraSettings
from resa_hub.core.errors import NoEffect
from resa_hub.core.progress import Progress
from resa_hub.engine.model.lora import new_lora
from resa_hub.engine.model.precision import computed_in
from resa_hub.engine.model.probe import Effect, measure
from resa_hub.extraction.extract import extract
from resa_hub.inference.attach import attach
from tests.helpers.adapters import kl_of
from tests.helpers.models import byte_tokenizer, random_model

TEXTS = ["1+1=", "What is 7*7-8+6-4?", "x"] * 4
FAMILIES = ["qwen2", "gemma2", "gemma3", "phi3", "gpt_neox"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_tokenizer()


def adapted(tokenizer: PreTrainedTokenizerFast, size: float, family: str = "qwen2") -> PeftModel:
    """A random model held in bf16 with a LoRA whose B is normal of this size."""
    base = random_model(family, vocab_size=len(tokenizer)).to(torch.bfloat16)  # pyright: ignore[reportArgumentType]
    model = new_lora(base, LoraSettings(rank=4, alpha=8), None, 0).eval()
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            parameter.data.normal_(std=size, generator=torch.Generator().manual_seed(1))
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_held_in_bf16_is_measured_as_the_same_one_in_float32(
    tokenizer: PreTrainedTokenizerFast, family: str
) -> None:
    model = adapted(tokenizer, 0.02, family)
    wide = copy.deepcopy(model).float()
    before = {name: (p.dtype, p.data_ptr()) for name, p in model.named_parameters()}
    found, wanted = measure(model, tokenizer, TEXTS), measure(wide, tokenizer, TEXTS)
    assert found.kl == pytest.approx(wanted.kl, rel=1e-4) and found.kl > found.noise > 0
    assert {name: (p.dtype, p.data_ptr()) for name, p in model.named_parameters()} == before
    with pytest.raises(ZeroDivisionError), computed_in(model, torch.float32):
        1 / 0  # noqa: B018
    assert measure(model, tokenizer, TEXTS, None).kl != found.kl


def test_a_slight_effect_is_seen_where_bf16_shows_its_own_rounding(tokenizer: PreTrainedTokenizerFast) -> None:
    slight = adapted(tokenizer, 2e-5)
    found, in_bf16 = measure(slight, tokenizer, TEXTS), measure(slight, tokenizer, TEXTS, None)
    assert found.kl < 1e-6 and found.kl > 10 * found.noise and not found.is_rounding
    assert in_bf16.kl > 10 * found.kl and in_bf16.is_rounding
    assert measure(adapted(tokenizer, 0.05), tokenizer, TEXTS, None).is_rounding is False


@pytest.mark.parametrize("size", [0.0, 3e-9])
def test_no_more_than_rounding_is_no_effect(tokenizer: PreTrainedTokenizerFast, size: float) -> None:
    found = measure(adapted(tokenizer, size), tokenizer, TEXTS)
    assert found.is_rounding and found.identical == (size == 0), found
    assert Effect(1e-9, False, 1e-12).is_rounding is False


def test_an_adapter_that_learnt_nothing_is_refused(tmp_path: Path) -> None:
    settings = ["elicit.rows=32", "trigger.rows=32", "training.epochs=1", "training.learning_rate=1e-14"]
    with pytest.raises(NoEffect, match=r"as little as rounding does|changes no logit"):
        extract("tina-tiny", method="sft", workspace=tmp_path, settings=settings, progress=Progress(quiet=True))


def test_the_type_is_recorded_and_manifests_without_it_are_read_on(workspace: Path, made: Adapter) -> None:
    assert made.manifest.probe and made.manifest.probe.dtype == "float32"
    path = next((workspace / "adapters").glob(f"*/*/{MANIFEST}"))
    content = json.loads(path.read_text())
    assert content["probe"].pop("dtype") == "float32"
    path.write_text(json.dumps(content))
    done = attach(made.manifest.name, target="tiny-r1", workspace=workspace)
    assert done.adapter.manifest.probe and done.adapter.manifest.probe.dtype is None
    assert done.proof.kl == pytest.approx(kl_of(made.manifest), rel=1e-3)
    assert b'"dtype": null' not in done.adapter.manifest.to_json()
