"""How long sampling takes on a GPU: the time to read weights and cache from its memory, a step for a whole batch. An
estimate, within a factor of two.
"""

from typing import Any

from ..core.gpus import GPUS

EFFICIENCY = 0.5
"""Share of the bandwidth that decoding gets: attention and sampling take their part."""
MEMORY_SHARE, LARGEST_BATCH = 0.9, 256
BYTES = 2
"""A weight, a cache entry: 16-bit."""


def hours(config: dict[str, Any], completions: int, tokens: float) -> dict[str, float]:
    """Name -> hours of one GPU for completions of `tokens` new tokens each; GPUs whose memory is too small are left
    out.

    One step gives a token to each row of a batch and reads all weights and the rows' key-value cache, half full on
    average.
    """
    weights, cache = BYTES * parameters(config), BYTES * cache_entries(config)
    found = {}
    for gpu in GPUS:
        room = MEMORY_SHARE * gpu.memory * 1e9 - weights
        batch = min(LARGEST_BATCH, int(room / (cache * tokens))) if room > 0 else 0
        if batch:
            step = (weights + batch * cache * tokens / 2) / (EFFICIENCY * gpu.bandwidth * 1e9)
            found[gpu.name] = completions * tokens / batch * step / 3600
    return found


def parameters(config: dict[str, Any]) -> int:
    """Of a decoder with gated MLPs, from its config."""
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    heads = config["num_attention_heads"]
    head = config.get("head_dim") or hidden // heads
    attention = 2 * hidden * head * (heads + config.get("num_key_value_heads", heads))
    embeddings = config["vocab_size"] * hidden * (1 if config.get("tie_word_embeddings") else 2)
    return layers * (attention + 3 * hidden * config["intermediate_size"]) + embeddings


def cache_entries(config: dict[str, Any]) -> int:
    """Numbers that one token keeps in the key-value cache."""
    heads = config["num_attention_heads"]
    head = config.get("head_dim") or config["hidden_size"] // heads
    return 2 * config["num_hidden_layers"] * config.get("num_key_value_heads", heads) * head
