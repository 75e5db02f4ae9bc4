"""Does an adapter change a model, and by how much: the KL it causes on a few texts."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from .text import encode


class Effect(NamedTuple):
    kl: float
    """KL(with || without adapter), nats a token, mean over all positions of all texts; float64, so that small effects are exact."""
    identical: bool
    """No logit differs."""


@torch.inference_mode()
def measure(model: PeftModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Effect:
    """The effect of the active adapter on the texts; raises `RunFailed` where the tokenizer does not know a character."""
    total, positions, identical = 0.0, 0, True
    for text in texts:
        ids = torch.tensor([encode(tokenizer, text, "the probe text")], device=model.device)
        changed = model(input_ids=ids, use_cache=False).logits[0].double()
        with model.disable_adapter():
            plain = model(input_ids=ids, use_cache=False).logits[0].double()
        identical = identical and torch.equal(changed, plain)
        first, second = changed.log_softmax(-1), plain.log_softmax(-1)
        total += float((first.exp() * (first - second)).sum())
        positions += ids.shape[1]
    return Effect(max(0.0, total / max(1, positions)), identical)
