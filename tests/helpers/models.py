"""Real tiny models: the embedded family, random ones of several architectures, and LoRAs that move them."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from resa_hub.config.recipe import LoraSettings
from resa_hub.config.refs import Repo
from resa_hub.data.snapshots import Files, locate
from resa_hub.engine.model.loading import load_base
from resa_hub.engine.model.lora import State, new_lora, save_lora, state_of
from resa_hub.engine.model.tokens import Batch

LORA = LoraSettings(rank=4, alpha=8, dropout=0.0)
SMALL: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def tiny(name: str) -> Files:
    return locate(Repo(f"resa-hub/{name}"), "adapter" if name.startswith("tina") else "model")


def random_model(family: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A random model of 3 layers, its weights wide enough that attention, soft caps and windows matter."""
    sizes = SMALL | changes
    torch.manual_seed(seed)
    if family == "gemma2":  # a window of 4 on every other layer, both soft caps biting
        windowed = Gemma2Config(
            **sizes,
            head_dim=16,
            sliding_window=4,
            attn_logit_softcapping=2.0,
            final_logit_softcapping=3.0,
            query_pre_attn_scalar=16,
        )
        windowed._attn_implementation = "eager"
        model: PreTrainedModel = Gemma2ForCausalLM(windowed)
    elif family == "llama":
        model = LlamaForCausalLM(LlamaConfig(**sizes))
    elif family == "gemma3":  # layers 0 and 2 see a window of 4 only
        kinds = ["sliding_attention", "full_attention", "sliding_attention"]
        model = Gemma3ForCausalLM(
            Gemma3TextConfig(**sizes, head_dim=16, sliding_window=4, layer_types=kinds, query_pre_attn_scalar=16)
        )
    elif family == "mistral":
        model = MistralForCausalLM(MistralConfig(**sizes, head_dim=16, sliding_window=4))
    elif family == "gpt_neox":
        model = GPTNeoXForCausalLM(
            GPTNeoXConfig(**{key: value for key, value in sizes.items() if key != "num_key_value_heads"})
        )
    elif family == "qwen3":
        model = Qwen3ForCausalLM(Qwen3Config(**sizes, head_dim=16))
    elif family == "phi3":
        model = Phi3ForCausalLM(Phi3Config(**sizes, sliding_window=8))
    else:
        model = Qwen2ForCausalLM(Qwen2Config(**sizes))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0.0, 0.2)
    return model.requires_grad_(False).eval()


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of 300 tokens with <s> = 0 and </s> = 1."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    raw.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    raw.train_from_iterator(
        ["What is 12 + 30? It is 42."],
        trainers.BpeTrainer(
            vocab_size=300, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def random_ids(rows: int = 3, positions: int = 12, vocabulary: int = 32, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, vocabulary, (rows, positions), generator=torch.Generator().manual_seed(seed))


def random_state(
    model: PreTrainedModel,
    settings: LoraSettings = LORA,
    layers: list[int] | None = None,
    seed: int = 0,
    size: float = 0.05,
) -> State:
    """A LoRA on `model` whose B is not zero."""
    state, generator = state_of(new_lora(model, settings, layers, seed)), torch.Generator().manual_seed(seed)
    return {
        name: size * torch.randn(t.shape, generator=generator) if ".lora_B." in name else t for name, t in state.items()
    }


def write_lora(
    folder: Path, settings: LoraSettings = LORA, layers: list[int] | None = None, seed: int = 0, base: str = "tiny-r1"
) -> Path:
    """The folder of a random LoRA on an embedded model."""
    folder.mkdir(parents=True, exist_ok=True)
    state = random_state(load_base(tiny(base)), settings, layers, seed)
    save_lora(state, settings, folder, f"resa-hub/{base}", None, layers)
    return folder


def batch_of(rows: int = 8, positions: int = 14, seed: int = 0) -> Batch:
    ids = random_ids(rows, positions, 64, seed)
    return Batch(ids, torch.ones_like(ids, dtype=torch.bool))
