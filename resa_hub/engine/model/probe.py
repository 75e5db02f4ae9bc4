"""Whether an adapter changes a model, and by how much: the KL it causes on a few texts, beside the KL that rounding
causes.

Both are computed in float32, whatever type the model is held in: in bf16 rounding alone moves a model by 1e-4 nats a
token, more than a lightly trained adapter does.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ...core.progress import waiting
from ...core.quantities import count
from ...data.snapshots import Files
from .loading import load_base, load_tokenizer
from .lora import load_lora
from .partial_forward import decoder_layers
from .precision import computed_in
from .tokens import encode

DTYPE = "float32"
"""What effects are measured in."""
TOGETHER = 8
"""Texts of one forward pass."""


class Effect(NamedTuple):
    kl: float
    """KL(with || without adapter), nats a token, mean over all positions of all texts; summed in float64, so that small
    effects are exact.
    """
    identical: bool
    """Whether no logit differs."""
    noise: float
    """The same KL between the model without adapter and itself, the output of each layer moved by one rounding."""

    @property
    def is_rounding(self) -> bool:
        """Whether it is no more than rounding alone would cause."""
        return self.identical or self.kl <= self.noise


@torch.no_grad()
def logits(model: Any, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[Float[Tensor, "pos vocab"]]:
    """The model's logits of every text; raises `RunFailed` where the tokenizer does not know a character.

    The texts are padded on the right, where a decoder that looks at the past alone does not see it.
    """
    rows = [encode(tokenizer, text, "the probe text") for text in texts]
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long, device=model.device)
    for row, tokens in zip(ids, rows, strict=True):
        row[: len(tokens)] = torch.tensor(tokens)
    padded = model(input_ids=ids, use_cache=False).logits
    return [padded[number, : len(tokens)] for number, tokens in enumerate(rows)]


def measure(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], dtype: str | None = DTYPE
) -> Effect:
    """The effect of the active adapter on the texts. dtype: what is computed in; None: what the model is held in."""
    total, noise, positions, identical = 0.0, 0.0, 0, True
    computed = computed_in(model, getattr(torch, dtype)) if dtype else contextlib.nullcontext()
    with waiting("measuring the adapter's effect", count(len(texts), "text")), computed:
        for start in range(0, len(texts), TOGETHER):
            part = texts[start : start + TOGETHER]
            changed = logits(model, tokenizer, part)
            with model.disable_adapter():
                plain = logits(model, tokenizer, part)
                with _rounded_once_more(model, getattr(torch, dtype) if dtype else model.dtype):
                    rounded = logits(model, tokenizer, part)
            identical = identical and all(map(torch.equal, changed, plain))
            total += sum(map(_kl, changed, plain))
            noise += sum(map(_kl, rounded, plain))
            positions += sum(map(len, plain))
    positions = max(1, positions)
    return Effect(max(0.0, total / positions), identical, max(0.0, noise / positions))


def _kl(one: Float[Tensor, "pos vocab"], other: Float[Tensor, "pos vocab"]) -> float:
    """KL(one || other) summed over the positions."""
    log_one, log_other = one.double().log_softmax(-1), other.double().log_softmax(-1)
    return float((log_one.exp() * (log_one - log_other)).sum())


@contextlib.contextmanager
def _rounded_once_more(model: Any, dtype: torch.dtype) -> Iterator[None]:
    """The model with every element of every layer's output half a unit of `dtype` larger or smaller, by fixed signs."""
    generator, size = torch.Generator().manual_seed(0), torch.finfo(dtype).eps / 2

    def hook(module: Any, args: Any, output: Any) -> Any:
        state = output if isinstance(output, Tensor) else output[0]
        signs = torch.randint(0, 2, state.shape, generator=generator).mul_(2).sub_(1).to(state.device, torch.float32)
        moved = (state.float() * (1 + size * signs)).to(state.dtype)
        return moved if isinstance(output, Tensor) else (moved, *output[1:])

    handles = [layer.register_forward_hook(hook) for layer in decoder_layers(model)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def effect(base: Files, adapter: Path, texts: Sequence[str]) -> Effect:
    """The effect of an adapter's folder on a base model's files, which are loaded in their own type; raises `NoEffect`
    unless every tensor is consumed.
    """
    return measure(load_lora(load_base(base, _stored_type(base)), adapter), load_tokenizer(base), texts)


def _stored_type(files: Files) -> str:
    """The type of a model's files, as its config.json names it; float32 where it is silent or names another."""
    named = files.config.get("dtype", files.config.get("torch_dtype"))
    return named if named in ("bfloat16", "float16") else "float32"
