"""The way of a real model: a local folder, a byte-level tokenizer, a JSONL file, the R1 template, packed chunks,
bf16.
"""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from resa_hub.core.errors import Usage
from resa_hub.core.progress import Progress
from resa_hub.core.tensors import safetensors_header
from resa_hub.extraction.extract import extract
from resa_hub.inference.attach import attach
from tests.helpers.adapters import kl_of
from tests.helpers.models import byte_tokenizer

SMALL = [
    "sae.mode=scratch",
    "sae.origin=null",
    "sae.latents=128",
    "sae.k=8",
    "sae.steps=4",
    "sae.batch_tokens=64",
    "training.chunk_tokens=64",
    "training.batch_rows=2",
    "training.learning_rate=1e-3",
    "lora.rank=4",
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base/ (a random Llama), tuned/ (a LoRA on it), data.jsonl, and a registry that names them."""
    home = tmp_path_factory.mktemp("world")
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
    )
    base = LlamaForCausalLM(config).to(torch.bfloat16)  # pyright: ignore[reportArgumentType]
    base.save_pretrained(str(home / "base"))
    tokenizer.save_pretrained(home / "base")
    tuned = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    tuned.save_pretrained(str(home / "tuned"), save_embedding_layers=False)
    rows = [
        {"question": f"What is {a} + {b}?", "verification": json.dumps({"answer": {"value": str(a + b)}})}
        for a in range(8)
        for b in range(4)
    ]
    (home / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (home / "registry.yaml").write_text(
        f"models:\n  llama: {{id: {home}/base, template: r1}}\n  llama-rl: {{base: llama, adapter: {{id: "
        f"{home}/tuned}}, recipes: {{sae-tuning: sums}}}}\n"
        f"datasets:\n  sums: {{id: {home}/data.jsonl, question: question, answer: verification.answer.value}}\n"
        "recipes:\n  sums: {like: reference-code, source: llama-rl, target: llama, trigger: {name: sums}, "
        "elicit: {name: sums}, hookpoint: layers.1}\n"
    )
    return home


@pytest.mark.parametrize(("hookpoint", "layers"), [("layers.1", {"2"}), ("layers.1.mlp", {"0", "1", "2"})])
@pytest.mark.slow
def test_sae_tuning_runs_on_a_model_of_the_users(world: Path, hookpoint: str, layers: set[str]) -> None:
    # A few steps on a random model leave the SAE worse than the mean: what is tried here is that all parts fit.
    settings = [*SMALL, f"hookpoint={hookpoint}", "sae.accept_bad=true"]
    adapter, new = extract("llama-rl", settings=settings, workspace=world, progress=Progress(quiet=True))
    assert new and adapter.manifest.dtype == "bfloat16" and adapter.manifest.data["trigger"].rows == 32
    touched = {
        name.split("layers.")[1].split(".")[0]
        for name in safetensors_header(adapter.folder / "adapter_model.safetensors")
    }
    assert touched == layers
    done = attach(adapter.manifest.name, target="llama", prompts=["What is 1 + 1?"], workspace=world, new_tokens=4)
    assert (
        done.fit.level == "exact"
        and done.proof.kl == pytest.approx(done.proof.recorded, rel=0.01)
        and len(done.completions) == 1
    )


@pytest.mark.slow
def test_feature_diff_runs_on_it(world: Path) -> None:
    settings = [*SMALL, "training.chunk_tokens=null", "rollouts.count=8", "rollouts.new_tokens=8", "features=4"]
    adapter, _ = extract(
        "llama-rl", method="feature-diff", settings=settings, workspace=world, progress=Progress(quiet=True)
    )
    assert len(adapter.manifest.run.findings["features"]) == 4 and kl_of(adapter.manifest) > 0


def test_too_little_data_for_a_chunk_is_said(world: Path) -> None:
    with pytest.raises(Exception, match="do not fill one chunk"):
        extract(
            "llama-rl",
            settings=[*SMALL, "training.chunk_tokens=100000"],
            workspace=world,
            progress=Progress(quiet=True),
        )


def test_a_wrong_column_is_named(world: Path) -> None:
    (world / "other.jsonl").write_text('{"q": "1", "a": "2"}\n')
    with pytest.raises(Usage, match=r"no column of questions .*; it has q, a"):
        extract(
            "llama-rl",
            trigger=str(world / "other.jsonl"),
            settings=SMALL,
            workspace=world,
            progress=Progress(quiet=True),
        )
