"""Which models an adapter can be extracted on: decoder-only transformers with dense layers.

Others are refused from config.json alone. Whether a decoder-only model can be cut at its layers is not read off its
name: `engine.model.split.check_splittable` tries it.
"""

from typing import Any

from ..core.errors import DoesNotFit

RECURRENT = frozenset(
    {
        "bamba",
        "falcon_h1",
        "falcon_mamba",
        "jamba",
        "kimi_linear",
        "mamba",
        "mamba2",
        "nemotron_h",
        "rwkv",
        "xlstm",
        "zamba",
        "zamba2",
    }
)
"""State-space and recurrent models whose config does not list the kinds of its layers."""
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
OTHER_INPUTS = ("vision_config", "audio_config")
HINT = "use a decoder-only transformer with dense layers: Qwen2, Qwen3, Llama, Mistral, Gemma, Phi, GPT-NeoX, OLMo ..."


def check(config: dict[str, Any], name: str) -> None:
    """Raise `DoesNotFit`, naming the kind, unless `config` (config.json) is of a dense decoder-only text model."""
    kind = _other_kind(config)
    if kind:
        raise DoesNotFit(
            f"{name} is {kind} ({config.get('model_type', 'of no named type')}): no adapter can be extracted on it",
            HINT,
        )


def _other_kind(config: dict[str, Any]) -> str:
    """What the model is instead, in words; empty for a dense decoder-only text model."""
    if config.get("is_encoder_decoder"):
        return "an encoder-decoder"
    if any(config.get(key) for key in OTHER_INPUTS):
        return "a model of several modalities"
    kinds = [str(kind) for kind in _layer_kinds(config)]
    if config.get("model_type") in RECURRENT or any("attention" not in kind or "linear" in kind for kind in kinds):
        return "a state-space or recurrent model"
    counts = (config.get(key) for key in EXPERTS)
    # PEFT puts no LoRA on fused experts, and a router's choice is no continuous function of the weights.
    if any(isinstance(count, int) and count > 1 for count in counts):
        return "a mixture of experts"
    return ""


def _layer_kinds(config: dict[str, Any]) -> list[Any]:
    kinds = config.get("layer_types") or config.get("layers_block_type") or config.get("block_types") or []
    return kinds if isinstance(kinds, list) else []
