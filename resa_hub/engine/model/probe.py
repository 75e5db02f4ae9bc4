"""Whether an adapter changes a model, and by how much: the KL it causes on a few texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ...data.snapshots import Files
from .loading import load_base, load_tokenizer
from .lora import load_lora
from .tokens import encode


class Effect(NamedTuple):
    kl: float
    """KL(with || without adapter), nats a token, mean over all positions of all texts; float64, so that small effects
    are exact.
    """
    identical: bool
    """Whether no logit differs."""


@torch.inference_mode()
def logits(model: Any, tokenizer: PreTrainedTokenizerBase, text: str) -> Float[Tensor, "positions vocab"]:
    """The model's logits of one text in float64; raises `RunFailed` where the tokenizer does not know a character."""
    ids = torch.tensor([encode(tokenizer, text, "the probe text")], device=model.device)
    return model(input_ids=ids, use_cache=False).logits[0].double()


def measure(model: PeftModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Effect:
    """The effect of the active adapter on the texts."""
    total, positions, identical = 0.0, 0, True
    for text in texts:
        changed = logits(model, tokenizer, text)
        with model.disable_adapter():
            plain = logits(model, tokenizer, text)
        identical = identical and torch.equal(changed, plain)
        log_changed, log_plain = changed.log_softmax(-1), plain.log_softmax(-1)
        total += float((log_changed.exp() * (log_changed - log_plain)).sum())
        positions += len(changed)
    return Effect(max(0.0, total / max(1, positions)), identical)


def effect(base: Files, adapter: Path, texts: Sequence[str], dtype: str = "float32") -> Effect:
    """The effect of an adapter's folder on a base model's files; raises `NoEffect` unless every tensor is consumed."""
    return measure(load_lora(load_base(base, dtype), adapter), load_tokenizer(base), texts)
