"""Models of many makes: both methods from end to end on each, and what cannot carry an adapter is refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    BertConfig,
    BertLMHeadModel,
    BloomConfig,
    BloomForCausalLM,
    CohereConfig,
    CohereForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
)

from resa_hub.adapter.fit import assess_fit, read_lora
from resa_hub.adapter.layout import CONFIG
from resa_hub.adapter.store import Adapter
from resa_hub.adapter.weight_fingerprint import correlation, decoder_matrices, sketch
from resa_hub.config.recipe import LoraSettings
from resa_hub.config.refs import Repo
from resa_hub.core.errors import DoesNotFit
from resa_hub.core.progress import Progress
from resa_hub.core.tensors import safetensors_header
from resa_hub.data.architectures import check
from resa_hub.data.snapshots import locate
from resa_hub.engine.model.loading import load_base
from resa_hub.engine.model.lora import modules_of, new_lora, state_of
from resa_hub.engine.model.partial_forward import check_splittable, hook_path, last_hidden_state, lm_head
from resa_hub.extraction.extract import extract
from resa_hub.inference.attach import attach
from tests.helpers.adapters import kl_of
from tests.helpers.models import byte_tokenizer, random_ids, random_model

SEVEN = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
PHI3, NEOX = (
    {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"},
    {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"},
)
FAMILIES: dict[str, tuple[set[str], bool, str]] = {
    "qwen2": (SEVEN, True, "float32"),
    "qwen3": (SEVEN, False, "bfloat16"),
    "llama": (SEVEN, False, "float32"),
    "mistral": (SEVEN, False, "bfloat16"),
    "gemma2": (SEVEN, True, "float32"),
    "gemma3": (SEVEN, True, "bfloat16"),
    "phi3": (PHI3, False, "float32"),
    "gpt_neox": (NEOX, False, "bfloat16"),
}
"""Family: what carries the LoRA, whether embeddings and head are one matrix, the type it is run in. All but GPT-NeoX
share keys between heads (GQA).
"""

SETTINGS = [
    "sae.mode=scratch",
    "sae.origin=null",
    "sae.latents=64",
    "sae.k=8",
    "sae.steps=4",
    "sae.batch_tokens=64",
    "training.chunk_tokens=null",
    "training.batch_rows=8",
    "training.learning_rate=1e-3",
    "lora.rank=4",
    "rollouts.count=8",
    "rollouts.new_tokens=8",
    "features=4",
]


def world(home: Path, family: str) -> Path:
    """A workspace whose registry names `base`, a random model of the family, and `tuned`, a LoRA on it."""
    modules, tied, dtype = FAMILIES[family]
    tokenizer = byte_tokenizer()
    model = random_model(
        family, vocab_size=len(tokenizer), tie_word_embeddings=tied, pad_token_id=1, bos_token_id=0, eos_token_id=1
    )
    model.to(getattr(torch, dtype)).save_pretrained(str(home / "base"))
    tokenizer.save_pretrained(home / "base")
    torch.manual_seed(1)
    get_peft_model(model, LoraConfig(r=2, target_modules=sorted(modules), init_lora_weights=False)).save_pretrained(
        str(home / "tuned"), save_embedding_layers=False
    )
    rows = [{"question": f"What is {a} + {b}?", "answer": str(a + b)} for a in range(8) for b in range(2)]
    (home / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (home / "registry.yaml").write_text(
        f"models:\n  base: {{id: {home}/base}}\n  tuned: {{base: base, adapter: {{id: {home}/tuned}}, recipes: "
        f"{{sae-tuning: sums}}}}\n"
        f"datasets:\n  sums: {{id: {home}/data.jsonl, question: question, answer: answer}}\n"
        f"recipes:\n  sums: {{like: reference-code, source: tuned, target: base, trigger: {{name: sums}}, "
        f"elicit: {{name: sums}}, dtype: {dtype}}}\n"
    )
    return home


def made(home: Path, method: str, *settings: str) -> Adapter:
    return extract(
        "tuned", method=method, layer=1, settings=[*SETTINGS, *settings], workspace=home, progress=Progress(quiet=True)
    )[0]


@pytest.mark.parametrize(
    "family", [pytest.param(f, marks=[] if f in ("gemma2", "gpt_neox") else pytest.mark.slow) for f in FAMILIES]
)
def test_both_methods_run_from_end_to_end(tmp_path: Path, family: str) -> None:
    home, (modules, _, dtype) = world(tmp_path, family), FAMILIES[family]
    base = locate(Repo(str(home / "base")))
    for method, layers in (("sae-tuning", {"2"}), ("feature-diff", {"0", "1", "2"})):
        adapter = made(home, method)
        touched = list(safetensors_header(adapter.folder / "adapter_model.safetensors"))
        assert {name.split("layers.")[1].split(".")[0] for name in touched} == layers
        assert (
            set(json.loads((adapter.folder / CONFIG).read_text())["target_modules"])
            == modules
            == {n.split(".lora_")[0].split(".")[-1] for n in touched}
        )
        assert kl_of(adapter.manifest) > 0 and adapter.manifest.recipe and adapter.manifest.recipe.dtype == dtype
        findings, card = adapter.manifest.run.findings, (adapter.folder / "README.md").read_text()
        assert set(findings.get("modules", SEVEN)) == modules and all(module in card for module in modules)
        sae = json.loads((adapter.folder / "sae/layers.1/cfg.json").read_text())["metadata"]
        assert (
            sae["hf_hook_name"] == hook_path(load_base(base), "layers.1")
            and sae["hook_name"] == "blocks.1.hook_resid_post"
        )
        done = attach(adapter.manifest.name, target="base", workspace=home, prompts=["1 + 1"], new_tokens=2)
        assert done.fit.level == "exact" and done.proof.kl == pytest.approx(done.proof.recorded, rel=0.01)
        assert assess_fit(adapter.manifest.base, read_lora(adapter.folder), base).level == "exact"


@pytest.mark.parametrize("family", FAMILIES)
def test_kinship_is_measured_on_every_make(tmp_path: Path, family: str) -> None:
    random_model(family).save_pretrained(str(tmp_path / "one"))
    random_model(family, seed=1).save_pretrained(str(tmp_path / "other"))
    own, other = ([tmp_path / name / "model.safetensors"] for name in ("one", "other"))
    per_layer = len(modules_of(random_model(family), LoraSettings()))
    assert len(decoder_matrices(own)) == 3 * per_layer
    assert correlation(sketch(own), own) > 0.999 and abs(correlation(sketch(own), other)) < 0.1


@pytest.mark.parametrize(
    ("asked", "found"), [(("all-linear",), NEOX), (("dense", "query_key_value"), {"dense", "query_key_value"})]
)
def test_modules_are_found_by_structure_or_by_name(asked: tuple[str, ...], found: set[str]) -> None:
    assert set(modules_of(random_model("gpt_neox"), LoraSettings(modules=asked))) == found


@pytest.mark.parametrize("asked", [("q_proj", "v_proj"), ("lm_head",), ("dense_h",)])
def test_a_module_that_the_model_lacks_is_refused_with_those_it_has(asked: tuple[str, ...]) -> None:
    """PEFT would go on with what it finds: half an adapter under a whole one's name."""
    with pytest.raises(
        DoesNotFit, match=r"its layers have query_key_value, dense, dense_h_to_4h, dense_4h_to_h"
    ) as caught:
        new_lora(random_model("gpt_neox"), LoraSettings(modules=asked), None, 0)
    assert asked[0] in caught.value.message and "all-linear" in caught.value.hint


def test_wrong_modules_are_told_before_any_work(tmp_path: Path) -> None:
    home = world(tmp_path, "phi3")
    with pytest.raises(DoesNotFit, match="q_proj"):
        made(home, "sae-tuning", "lora.modules=[q_proj, v_proj]")
    assert not list(home.rglob("*.pt"))


def test_all_linear_is_the_default_written_out() -> None:
    one, other = (
        state_of(new_lora(random_model("qwen2"), LoraSettings(rank=4, modules=m), None, 3))
        for m in (("all-linear",), LoraSettings().modules)
    )
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"model_type": "t5", "is_encoder_decoder": True}, "an encoder-decoder"),
        ({"model_type": "mamba"}, "state-space"),
        ({"model_type": "jamba"}, "state-space"),
        ({"model_type": "qwen3_next", "layer_types": ["linear_attention", "full_attention"]}, "recurrent"),
        ({"model_type": "lfm2", "layer_types": ["conv", "full_attention"]}, "recurrent"),
        ({"model_type": "mixtral", "num_local_experts": 8}, "mixture of experts"),
        ({"model_type": "qwen3_moe", "num_experts": 128}, "mixture of experts"),
        ({"model_type": "deepseek_v3", "n_routed_experts": 256}, "mixture of experts"),
        ({"model_type": "gemma3", "vision_config": {"hidden_size": 4}, "text_config": {}}, "several modalities"),
    ],
    ids=lambda value: value.get("model_type") if isinstance(value, dict) else value,
)
def test_what_is_no_dense_decoder_is_refused_by_name(config: dict[str, Any], kind: str) -> None:
    with pytest.raises(DoesNotFit, match=kind) as caught:
        check(config, "some/model")
    assert config["model_type"] in caught.value.message and caught.value.exit_code == 4


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "llama"},
        {"model_type": "gemma3_text", "layer_types": ["sliding_attention", "full_attention"]},
        {"num_experts": 1},
    ],
)
def test_dense_decoders_pass(config: dict[str, Any]) -> None:
    check(config, "some/model")


def test_extract_refuses_before_anything_is_loaded(tmp_path: Path) -> None:
    home = world(tmp_path, "qwen2")
    config = json.loads((home / "base/config.json").read_text())
    (home / "base/config.json").write_text(json.dumps(config | {"model_type": "qwen2_moe", "num_experts": 4}))
    with pytest.raises(DoesNotFit, match=r"mixture of experts \(qwen2_moe\)"):
        made(home, "feature-diff")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "own", "auto_map": {"AutoModel": "own.Model"}}, r"remote code, own"),
        ({"model_type": "own"}, r"no causal LM .*\(own\)"),
        ({"model_type": "t5"}, "t5"),
    ],
)
def test_remote_code_and_unknown_types_are_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    random_model("llama").save_pretrained(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(json.loads((tmp_path / "config.json").read_text()) | change))
    with pytest.raises(DoesNotFit, match=said):
        load_base(locate(Repo(str(tmp_path))))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_can_be_cut_passes(family: str, dtype: torch.dtype) -> None:
    check_splittable(random_model(family).to(dtype))  # pyright: ignore[reportArgumentType]


def test_a_model_that_cannot_be_cut_is_refused_by_what_it_does() -> None:
    sizes: dict[str, Any] = {"vocab_size": 64, "hidden_size": 32}
    with pytest.raises(DoesNotFit, match=r"BloomForCausalLM .*cannot be cut"):  # its layers hand on tuples
        check_splittable(BloomForCausalLM(BloomConfig(**sizes, n_layer=2, n_head=2)).eval())
    bert = BertLMHeadModel(BertConfig(**sizes, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48)).eval()
    with pytest.raises(DoesNotFit, match="BertLMHeadModel"):
        check_splittable(bert)
    ours = random_model("llama")
    ours.model.layers[1].self_attn.is_causal = False  # pyright: ignore[reportAttributeAccessIssue]
    ours.config._attn_implementation = "eager"
    mask = type(ours.model).__module__
    with pytest.MonkeyPatch.context() as patched, pytest.raises(DoesNotFit, match="looks at later tokens"):
        patched.setattr(f"{mask}.create_causal_mask", lambda **_: None)
        check_splittable(ours)


def test_a_model_without_linear_layers_is_refused() -> None:
    with pytest.raises(DoesNotFit, match="no linear module"):
        modules_of(GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=2)), LoraSettings())


@torch.no_grad()
def test_the_factor_on_coheres_logits_is_in_the_head() -> None:
    config = CohereConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    config.pad_token_id, config.logit_scale = 0, 0.25
    model, ids = CohereForCausalLM(config).eval(), random_ids()
    assert torch.equal(lm_head(model)(last_hidden_state(model, ids)), model(input_ids=ids, use_cache=False).logits)
