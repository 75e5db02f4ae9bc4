"""Activations at a hookpoint as an endless stream of shuffled batches for the SAE trainer, the first position left out."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from ...progress import Advance
from ..split import prefix
from ..text import Batch

BUFFER_BYTES = 2 << 30
"""What is shuffled together; data below this size is computed once and kept."""


def collect(model: PreTrainedModel, batches: Sequence[Batch], hookpoint: str, advance: Advance) -> Iterator[Float[Tensor, "n d_in"]]:
    """States behind the first position, batch by batch: on real models position 0 holds 95% of the variance and drowns the rest."""
    for batch in batches:
        state = prefix(model, batch.ids.to(model.device), hookpoint)
        advance(batch.tokens)
        yield state[:, 1:].reshape(-1, state.shape[-1]).float()


def stream(sources: Sequence[tuple[PreTrainedModel, Sequence[Batch]]], hookpoint: str, size: int, seed: int, advance: Advance) -> Iterator[Tensor]:
    """Endless [size, d_in] batches, shuffled inside a buffer; each pass over the data is in another order."""
    generator = torch.Generator().manual_seed(seed)
    whole: Tensor | None = None
    while True:
        buffer, held, complete = [], 0, True
        for model, batches in sources if whole is None else ():
            for states in collect(model, batches, hookpoint, advance):
                buffer.append(states.cpu())
                held += states.nbytes
                if held > BUFFER_BYTES:
                    complete = False
                    yield from _shuffled(torch.cat(buffer), size, generator)
                    buffer, held = [], 0
        if whole is None:
            tail = torch.cat(buffer) if buffer else torch.empty(0, 1)
            whole = tail if complete else None
        if whole is not None and len(whole) < size:
            whole = whole.repeat(-(-size // max(1, len(whole))), 1)
        yield from _shuffled(whole if whole is not None else tail, size, generator)


def _shuffled(states: Tensor, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    order = torch.randperm(len(states), generator=generator)
    for start in range(0, len(order) - size + 1, size):
        yield states[order[start : start + size]]


def count(sources: Sequence[tuple[PreTrainedModel, Sequence[Batch]]]) -> int:
    """Training tokens of one pass: the first position of each row is left out."""
    return sum(batch.ids.shape[0] * (batch.ids.shape[1] - 1) for _, batches in sources for batch in batches)
