"""Activations at a hookpoint as an endless stream of shuffled batches for the SAE trainer, the first position left out."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from ..split import prefix
from ..text import Batch

BUFFER_BYTES = 2 << 30
"""What is shuffled together; data that fits is computed once and kept."""
Sources = Sequence[tuple[PreTrainedModel, Sequence[Batch]]]


def buffers(sources: Sources, hookpoint: str) -> Iterator[Float[Tensor, "n d_in"]]:
    """One pass over the data. On real models position 0 holds 95% of the variance and would drown the rest."""
    held: list[Tensor] = []
    for model, batches in sources:
        for batch in batches:
            state = prefix(model, batch.ids.to(model.device), hookpoint)
            held.append(state[:, 1:].reshape(-1, state.shape[-1]).float().cpu())
            if sum(part.nbytes for part in held) >= BUFFER_BYTES:
                yield torch.cat(held)
                held = []
    if held:
        yield torch.cat(held)


def stream(sources: Sources, hookpoint: str, size: int, seed: int) -> Iterator[Float[Tensor, "size d_in"]]:
    """Endless batches, shuffled inside a buffer; each pass is in another order, which the seed decides."""
    generator = torch.Generator().manual_seed(seed)
    only: Tensor | None = None
    while True:
        seen: list[int] = []
        for buffer in [only] if only is not None else buffers(sources, hookpoint):
            yield from _shuffled(buffer, size, generator)
            seen.append(len(buffer))
            only = buffer
        if len(seen) > 1:
            only = None  # more than one buffer: the next pass computes again


def _shuffled(states: Tensor, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Whole batches; data smaller than one batch is repeated."""
    order = torch.randperm(len(states), generator=generator)
    if len(order) < size:
        order = order.repeat(-(-size // len(order)))
    for start in range(0, len(order) - size + 1, size):
        yield states[order[start : start + size]]


def count(sources: Sources) -> int:
    """Training tokens of one pass: the first position of each row is left out."""
    return sum(batch.ids.shape[0] * (batch.ids.shape[1] - 1) for _, batches in sources for batch in batches)
