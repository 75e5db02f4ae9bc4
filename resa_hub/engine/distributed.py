"""One extraction on several processes under torchrun: the first decides, keeps and speaks, all compute; every step sees
the batch that one process would see.

Data-parallel: each process takes every n-th row, gradients are summed. What comes out equals the result of one process
up to the order of the sums.
"""

import contextlib
import pickle
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage]
from torch.distributed.rendezvous import rendezvous

from ..core import torchrun as ranks
from ..core.errors import HubError, RunFailed
from .model.tokens import Batch

PATIENCE = 60.0
"""Seconds that a process which failed waits for the first one to say so: torchrun ends all as soon as one has ended."""
LONG = timedelta(days=7)
"""The others wait for rollouts that the first one generates."""


class Crew:
    """The processes that work together; `ALONE` is a crew of one, for which everything here does nothing."""

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank, self.world = rank, world

    @property
    def alone(self) -> bool:
        return self.world == 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def rows(self) -> slice:
        """The rows of a batch that this process computes."""
        return slice(self.rank, None, self.world)

    def part(self, batch: Batch) -> Batch:
        return batch if self.alone else batch._replace(ids=batch.ids[self.rows], completion=batch.completion[self.rows])

    def agree(self, value: Any = None) -> Any:
        """What the first process says."""
        if self.alone:
            return value
        said = [value if self.first else None]
        distributed.broadcast_object_list(said, src=0)
        return said[0]

    def sum_(self, *tensors: Tensor) -> None:
        """Replace each by its sum over all processes, in one message."""
        if self.alone:
            return
        flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
        distributed.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def least_(self, tensor: Tensor) -> None:
        if not self.alone:
            distributed.all_reduce(tensor, distributed.ReduceOp.MIN)

    def mean(self, rows: Tensor, count: int) -> Tensor:
        """Mean over the rows of all processes, `count` together."""
        if self.alone:
            return rows.mean(0)
        total = rows.sum(0)
        self.sum_(total)
        return total / count


ALONE = Crew()


class SharedGradient:
    """Sums the gradient of each parameter over the crew as soon as it is there. `share`: this process's part of the
    batch, where its loss is a mean.
    """

    def __init__(self, module: nn.Module, crew: Crew) -> None:
        self.share, self.crew = 1.0, crew
        if not crew.alone:
            for parameter in module.parameters():
                parameter.register_post_accumulate_grad_hook(self._sum)

    def _sum(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        self.crew.sum_(parameter.grad.mul_(self.share))


@contextlib.contextmanager
def assembled() -> Iterator[Crew]:
    """The processes of torchrun, connected; `ALONE` without it. What ends one of them ends all: each raises the error
    of the first that failed.
    """
    if ranks.world() == 1:
        yield ALONE
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(ranks.local_rank())
    store, rank, world = next(iter(rendezvous("env://", timeout=LONG)))
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo", store=store, rank=rank, world_size=world, timeout=LONG
    )
    crew = Crew(rank, world)
    try:
        yield crew
    except Exception as error:
        raise _told(store, crew, error) from error
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _told(store: Store, crew: Crew, error: Exception) -> Exception:
    """The error of the process that failed first. The others learn of it when their next message fails; whoever failed
    waits until the first has heard.
    """
    lost = (
        isinstance(error, RuntimeError)
        and not isinstance(error, HubError)
        and any(word in str(error).lower() for word in ("gloo", "nccl", "connection"))
    )
    if lost:
        time.sleep(1)  # the one that failed has told before it let go
    own = pickle.dumps(
        (
            crew.rank,
            error
            if isinstance(error, HubError)
            else RunFailed(f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"),
        )
    )
    if not lost:
        store.set(f"error-{crew.rank}", own)  # pyright: ignore[reportArgumentType]  (bytes are stored as they are)
    with contextlib.suppress(Exception):
        distributed.destroy_process_group()
    if not crew.first and not lost:
        _wait(store, error)
        return error
    known = next((rank for rank in range(crew.world) if store.check([f"error-{rank}"])), None)
    store.set("heard", "1")
    if known is None or known == crew.rank:
        return (
            RunFailed("another process of this run was lost", "run the same command again: what was done is kept")
            if lost
            else error
        )
    told: HubError = pickle.loads(store.get(f"error-{known}"))[1]
    told.message = f"process {known}: {told.message}"
    return told


def _wait(store: Store, error: Exception) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with contextlib.suppress(Exception):
            if store.check(["heard"]):
                return
        time.sleep(0.1)
    print(f"error: {error}", file=sys.__stderr__, flush=True)  # the first process is deep in its own work
