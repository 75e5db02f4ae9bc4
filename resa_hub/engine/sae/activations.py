"""Activations at a hookpoint as an endless stream of shuffled batches for the SAE trainer, the first position left
out, computed in bounded memory and, where that is asked for, kept on disk.
"""

import contextlib
import functools
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from ...core.errors import RunFailed, Usage
from ..distributed import SINGLE_PROCESS, ProcessGroup
from ..model.partial_forward import run_to_layer, run_to_layers
from ..model.tokens import Batch

BUFFER_BYTES = 2 << 30
"""What is shuffled together; data that fits is computed once and kept."""
TENSOR_NAME = "states"
ModelBatch = tuple[PreTrainedModel, Batch]
Sources = Sequence[tuple[PreTrainedModel, Sequence[Batch]]]
ReadStates = Callable[[Sequence[ModelBatch], str, bool], Float[Tensor, "n d_in"]]
"""Computes the states of some batches: (batches, hookpoint, skip_first) -> states."""


class Buffer(NamedTuple):
    """Batches whose states are computed and shuffled together."""

    batches: list[ModelBatch]
    states: int


def states_of(batch: Batch, skip_first: bool = True) -> int:
    """States that a batch gives. On real models position 0 holds 95% of the variance and would drown the rest."""
    return batch.ids.shape[0] * (batch.ids.shape[1] - skip_first)


def count_states(sources: Sources, skip_first: bool = True) -> int:
    """Training tokens of one pass."""
    return sum(states_of(batch, skip_first) for _, batches in sources for batch in batches)


def plan_buffers(sources: Sources, width: int, skip_first: bool = True) -> list[Buffer]:
    """The buffers of one pass in their order, from the shapes alone: no state is computed. Buffers without a state are
    left out.
    """
    groups: list[list[ModelBatch]] = []
    filled = BUFFER_BYTES
    for model, batches in sources:
        for batch in batches:
            if filled >= BUFFER_BYTES:
                groups.append([])
                filled = 0
            groups[-1].append((model, batch))
            filled += states_of(batch, skip_first) * width * 4
    buffers = [Buffer(group, sum(states_of(batch, skip_first) for _, batch in group)) for group in groups]
    return [buffer for buffer in buffers if buffer.states]


def compute_states(batches: Sequence[ModelBatch], hookpoint: str, skip_first: bool = True) -> Float[Tensor, "n d_in"]:
    """In the model's own precision and main memory, in one buffer filled batch by batch: never twice in memory."""
    buffer, filled = None, 0
    count = sum(states_of(batch, skip_first) for _, batch in batches)
    for model, batch in batches:
        part = run_to_layer(model, batch.ids.to(model.device), hookpoint)[:, int(skip_first) :].flatten(0, 1)
        if buffer is None:
            buffer = part.new_empty(count, part.shape[-1], device="cpu")
        buffer[filled : filled + len(part)] = part
        filled += len(part)
    assert buffer is not None
    return buffer


class OnePass:
    """`compute_states` for several hookpoints at once: one pass of the model gives a buffer of each, and each is handed
    out once. Interleaved trainings cost one model.
    """

    def __init__(self, hookpoints: Sequence[str]) -> None:
        self.hookpoints = hookpoints
        self.tokens = 0
        """Tokens that went through the model."""
        self._waiting: dict[tuple[int, ...], dict[str, Tensor]] = {}
        """Buffers not handed out yet, by the identity of their batches and by hookpoint."""

    def __call__(
        self, batches: Sequence[ModelBatch], hookpoint: str, skip_first: bool = True
    ) -> Float[Tensor, "n d_in"]:
        key = tuple(id(batch.ids) for _, batch in batches)
        if hookpoint not in self._waiting.get(key, {}):
            self._waiting[key] = self._compute(batches, skip_first)
        buffer = self._waiting[key].pop(hookpoint)
        if not self._waiting[key]:
            del self._waiting[key]
        return buffer

    def _compute(self, batches: Sequence[ModelBatch], skip_first: bool) -> dict[str, Tensor]:
        parts: dict[str, list[Tensor]] = {hookpoint: [] for hookpoint in self.hookpoints}
        for model, batch in batches:
            self.tokens += batch.tokens
            for hookpoint, state in run_to_layers(model, batch.ids.to(model.device), self.hookpoints).items():
                parts[hookpoint].append(state[:, int(skip_first) :].flatten(0, 1).cpu())
        return {hookpoint: torch.cat(states) for hookpoint, states in parts.items()}


class ActivationCache:
    """Buffers of activations on disk, for data that is passed over several times and does not fit the memory: one
    safetensors file each, in the model's own precision, so what is read back equals what would be computed, bit for
    bit.

    limit: bytes; beyond it, and beyond half of the free disk, a buffer is computed at every use. What a killed run
    wrote is taken over: the folder must belong to one set of texts, models and hookpoint. A full disk is no error: a
    cache is no reason to stop.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for half_written in folder.glob("*.new"):
            half_written.unlink()
        present = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        self.left = min(limit - present, shutil.disk_usage(folder).free // 2)

    def get(self, number: int, compute: Callable[[], Float[Tensor, "n d_in"]]) -> Float[Tensor, "n d_in"]:
        """The buffer of this number, read where its file is there and whole, else computed."""
        path = self.folder / f"{number}.safetensors"
        if path.is_file():
            with contextlib.suppress(OSError, SafetensorError, KeyError):
                return load_file(path)[TENSOR_NAME]
        buffer = compute()
        if buffer.nbytes <= self.left:
            self._write(path, buffer)
        return buffer

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, path: Path, buffer: Tensor) -> None:
        staged = path.with_suffix(".new")
        try:
            save_file({TENSOR_NAME: buffer}, staged)
            os.replace(staged, path)
            self.left -= buffer.nbytes
        except (OSError, SafetensorError):
            self.left = 0
            with contextlib.suppress(OSError):
                staged.unlink(missing_ok=True)


def stream(
    sources: Sources,
    hookpoint: str,
    width: int,
    size: int,
    seed: int,
    *,
    skip_first: bool = True,
    start: int = 0,
    cache: ActivationCache | None = None,
    processes: ProcessGroup = SINGLE_PROCESS,
    read: ReadStates | None = None,
) -> Iterator[Float[Tensor, "size d_in"]]:
    """Endless batches of `size` states, shuffled inside a buffer; each pass is in another order, which the seed
    decides.

    start: batches to leave out, as if they had been taken; no state is computed for a buffer that is left out wholly.
    cache: where buffers are kept when there are several; one alone stays in memory. processes: each computes the states
    of its own texts and has, of each batch, the rows that are its own. read: `compute_states` by default.
    Raises `RunFailed` when there is no state at all and `Usage` for more processes than batches of text.
    """
    generator = torch.Generator().manual_seed(seed)
    buffers = plan_buffers(sources, width, skip_first)
    _check_enough(buffers, processes)
    compute = functools.partial(_own_states, hookpoint, width, skip_first, processes, read)
    only = compute(buffers[0]) if len(buffers) == 1 else None
    while True:
        for number, buffer in enumerate(buffers):
            order = _shuffled(buffer.states, size, generator)
            batches = len(order) // size
            if start >= batches:
                start -= batches
                continue
            if only is not None:
                states = only
            elif cache:
                states = cache.get(number, functools.partial(compute, buffer))
            else:
                states = compute(buffer)
            if not processes.is_single:
                order = own_places(buffer.batches, skip_first, processes)[order]
            for batch in range(start, batches):
                places = order[batch * size : (batch + 1) * size]
                yield states[places if processes.is_single else places[places >= 0]].float()
            del states  # before the next buffer is computed
            start = 0


def _shuffled(count: int, size: int, generator: torch.Generator) -> Int[Tensor, " n"]:
    """A random order of `count` states, repeated until it fills a batch of `size`."""
    order = torch.randperm(count, generator=generator)
    return order if count >= size else order.repeat(-(-size // count))


def _check_enough(buffers: Sequence[Buffer], processes: ProcessGroup) -> None:
    if not buffers:
        raise RunFailed(
            "the texts hold no token behind the first: there is nothing to train an SAE on",
            "use more rows or longer texts",
        )
    texts = sum(len(buffer.batches) for buffer in buffers)
    if texts < processes.world_size:
        raise Usage(
            f"{processes.world_size} processes share {texts} batches of text",
            "start fewer, or lower training.batch_rows",
        )


def _own_states(
    hookpoint: str, width: int, skip_first: bool, processes: ProcessGroup, read: ReadStates | None, buffer: Buffer
) -> Float[Tensor, "n d_in"]:
    """The states of a buffer that this process computes."""
    batches = buffer.batches[processes.rows]
    if not batches:  # a last, short buffer
        return torch.empty(0, width)
    return (read or compute_states)(batches, hookpoint, skip_first)


def own_places(batches: Sequence[ModelBatch], skip_first: bool, processes: ProcessGroup) -> Int[Tensor, " n"]:
    """Of every state of a buffer, where it stands among those of this process; -1 for those of others."""
    lengths = [states_of(batch, skip_first) for _, batch in batches]
    owners = [torch.full((length,), i % processes.world_size) for i, length in enumerate(lengths)]
    is_own = torch.cat(owners) == processes.rank
    return torch.where(is_own, is_own.long().cumsum(0) - 1, -1)
