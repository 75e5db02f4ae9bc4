"""Activations at a hookpoint as an endless stream of shuffled batches for the SAE trainer, the first position
left out.
"""

import functools
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from ...core.errors import RunFailed, Usage
from ..distributed import SINGLE_PROCESS, ProcessGroup
from ..model.split import run_to_layer, run_to_layers
from ..model.tokens import Batch
from .shards import Shards

BUFFER_BYTES = 2 << 30
"""What is shuffled together; data that fits is computed once and kept."""
Piece = tuple[PreTrainedModel, Batch]
Sources = Sequence[tuple[PreTrainedModel, Sequence[Batch]]]


def rows(batch: Batch, skip_first: bool = True) -> int:
    """States that a batch gives. On real models position 0 holds 95% of the variance and would drown the rest."""
    return batch.ids.shape[0] * (batch.ids.shape[1] - skip_first)


def buffers(sources: Sources, width: int, skip_first: bool = True) -> list[list[Piece]]:
    """What is computed and shuffled together, in the order of one pass: known from the shapes alone, before any state
    is computed.
    """
    found: list[list[Piece]] = []
    held = BUFFER_BYTES
    for model, batches in sources:
        for batch in batches:
            if held >= BUFFER_BYTES:
                found.append([])
                held = 0
            found[-1].append((model, batch))
            held += rows(batch, skip_first) * width * 4
    return found


def states(pieces: Sequence[Piece], hookpoint: str, skip_first: bool = True) -> Float[Tensor, "n d_in"]:
    """In the model's own precision, in one buffer that is filled piece by piece: never twice in memory."""
    buffer, filled = None, 0
    for model, batch in pieces:
        part = run_to_layer(model, batch.ids.to(model.device), hookpoint)[:, int(skip_first) :].flatten(0, 1)
        if buffer is None:
            buffer = part.new_empty(sum(rows(batch, skip_first) for _, batch in pieces), part.shape[-1], device="cpu")
        buffer[filled : filled + len(part)] = part
        filled += len(part)
    assert buffer is not None
    return buffer


Read = Callable[[Sequence[Piece], str, bool], Float[Tensor, "n d_in"]]
"""How the states of a buffer are had."""


class OnePass:
    """`states` for several hookpoints at once: one pass gives a buffer of each, and each is handed out once. Trainings
    that go in step cost one model.
    """

    def __init__(self, hookpoints: Sequence[str]) -> None:
        self.hookpoints = hookpoints
        self.passes = 0
        """Tokens that went through the model."""
        self._held: dict[tuple[int, ...], dict[str, Tensor]] = {}

    def __call__(self, pieces: Sequence[Piece], hookpoint: str, skip_first: bool = True) -> Float[Tensor, "n d_in"]:
        key = tuple(id(batch.ids) for _, batch in pieces)
        if hookpoint not in self._held.get(key, {}):
            parts: dict[str, list[Tensor]] = {at: [] for at in self.hookpoints}
            for model, batch in pieces:
                self.passes += batch.tokens
                for at, state in run_to_layers(model, batch.ids.to(model.device), self.hookpoints).items():
                    parts[at].append(state[:, int(skip_first) :].flatten(0, 1).cpu())
            self._held[key] = {at: torch.cat(own) for at, own in parts.items()}
        found = self._held[key].pop(hookpoint)
        if not self._held[key]:
            del self._held[key]
        return found


def stream(
    sources: Sources,
    hookpoint: str,
    width: int,
    size: int,
    seed: int,
    *,
    skip_first: bool = True,
    start: int = 0,
    shards: Shards | None = None,
    processes: ProcessGroup = SINGLE_PROCESS,
    read: Read | None = None,
) -> Iterator[Float[Tensor, "size d_in"]]:
    """Endless batches, shuffled inside a buffer; each pass is in another order, which the seed decides.

    start: batches to leave out, as if they had been taken; no state is computed for a buffer that is left out wholly.
    shards: where buffers are kept when there are several; one alone stays in memory. crew: every process computes the
    states of its own texts and has, of each batch, the rows that are its own. read: how the states are had, `states`
    where nothing is said. Raises `RunFailed` when there is no state at all.
    """
    generator = torch.Generator().manual_seed(seed)
    parts = [
        (pieces, count)
        for pieces in buffers(sources, width, skip_first)
        if (count := sum(rows(batch, skip_first) for _, batch in pieces))
    ]
    if not parts:
        raise RunFailed(
            "the texts hold no token behind the first: there is nothing to train an SAE on",
            "use more rows or longer texts",
        )
    if (texts := sum(len(pieces) for pieces, _ in parts)) < processes.world_size:
        raise Usage(
            f"{processes.world_size} processes share {texts} batches of text",
            "start fewer, or lower training.batch_rows",
        )
    only: Tensor | None = None
    while True:
        for place, (pieces, count) in enumerate(parts):
            order = torch.randperm(count, generator=generator)
            if count < size:
                order = order.repeat(-(-size // count))  # data smaller than one batch is repeated
            batches = len(order) // size
            if start >= batches:
                start -= batches
                continue
            own = pieces[processes.rows]
            make = (
                functools.partial(read or states, own, hookpoint, skip_first)
                if own
                else functools.partial(torch.empty, 0, width)
            )  # a last, short buffer
            if len(parts) == 1:
                buffer = only = make() if only is None else only
            else:
                buffer = shards.get(place, make) if shards else make()
            if not processes.is_single:
                order = places(pieces, skip_first, processes)[order]
            for number in range(start, batches):
                chosen = order[number * size : (number + 1) * size]
                yield buffer[chosen if processes.is_single else chosen[chosen >= 0]].float()
            del buffer  # before the next one is made
            start = 0


def places(pieces: Sequence[Piece], skip_first: bool, processes: ProcessGroup) -> Int[Tensor, " n"]:
    """Of every state of a buffer, where it stands among those of this process; -1 for those of others."""
    lengths = [rows(batch, skip_first) for _, batch in pieces]
    own = torch.cat(
        [torch.full((length,), i % processes.world_size == processes.rank) for i, length in enumerate(lengths)]
    )
    return torch.where(own, own.long().cumsum(0) - 1, -1)


def count(sources: Sources, skip_first: bool = True) -> int:
    """Training tokens of one pass."""
    return sum(rows(batch, skip_first) for _, batches in sources for batch in batches)
