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

from ..core import torchrun
from ..core.errors import HubError, RunFailed
from .model.tokens import Batch

ERROR_TIMEOUT_S = 60.0
"""Seconds that a process which failed waits for the first one to say so: torchrun ends all as soon as one has ended."""
COLLECTIVE_TIMEOUT = timedelta(days=7)
"""The others wait for rollouts that the first one generates."""


class ProcessGroup:
    """The processes that work together; `SINGLE_PROCESS` is a group of one, for which everything here does nothing."""

    def __init__(self, rank: int = 0, world_size: int = 1) -> None:
        self.rank, self.world_size = rank, world_size

    @property
    def is_single(self) -> bool:
        return self.world_size == 1

    @property
    def is_main_process(self) -> bool:
        return self.rank == 0

    @property
    def rows(self) -> slice:
        """The rows of a batch that this process computes."""
        return slice(self.rank, None, self.world_size)

    def part(self, batch: Batch) -> Batch:
        return (
            batch
            if self.is_single
            else batch._replace(ids=batch.ids[self.rows], completion=batch.completion[self.rows])
        )

    def broadcast(self, value: Any = None) -> Any:
        """What the first process says."""
        if self.is_single:
            return value
        said = [value if self.is_main_process else None]
        distributed.broadcast_object_list(said, src=0)
        return said[0]

    def all_reduce_(self, *tensors: Tensor) -> None:
        """Replace each by its sum over all processes, in one message."""
        if self.is_single:
            return
        flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
        distributed.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def all_reduce_min_(self, tensor: Tensor) -> None:
        if not self.is_single:
            distributed.all_reduce(tensor, distributed.ReduceOp.MIN)

    def all_reduce_mean(self, rows: Tensor, count: int) -> Tensor:
        """Mean over the rows of all processes, `count` together."""
        if self.is_single:
            return rows.mean(0)
        total = rows.sum(0)
        self.all_reduce_(total)
        return total / count


SINGLE_PROCESS = ProcessGroup()


class SharedGradient:
    """Sums the gradient of each parameter over all processes as soon as it is there. `share`: this process's part of
    the batch, where its loss is a mean.
    """

    def __init__(self, module: nn.Module, processes: ProcessGroup) -> None:
        self.share, self.processes = 1.0, processes
        if not processes.is_single:
            for parameter in module.parameters():
                parameter.register_post_accumulate_grad_hook(self._sum)

    def _sum(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        self.processes.all_reduce_(parameter.grad.mul_(self.share))


@contextlib.contextmanager
def init_process_group() -> Iterator[ProcessGroup]:
    """The processes of torchrun, connected; `SINGLE_PROCESS` without it. What ends one of them ends all: each raises
    the error of the first that failed.
    """
    if torchrun.world_size() == 1:
        yield SINGLE_PROCESS
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(torchrun.local_rank())
    store, rank, world = next(iter(rendezvous("env://", timeout=COLLECTIVE_TIMEOUT)))
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo", store=store, rank=rank, world_size=world, timeout=COLLECTIVE_TIMEOUT
    )
    processes = ProcessGroup(rank, world)
    try:
        yield processes
    except Exception as error:
        raise _first_error(store, processes, error) from error
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _first_error(store: Store, processes: ProcessGroup, error: Exception) -> Exception:
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
            processes.rank,
            error
            if isinstance(error, HubError)
            else RunFailed(f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"),
        )
    )
    if not lost:
        store.set(f"error-{processes.rank}", own)  # pyright: ignore[reportArgumentType]  (bytes are stored as they are)
    with contextlib.suppress(Exception):
        distributed.destroy_process_group()
    if not processes.is_main_process and not lost:
        _wait(store, error)
        return error
    known = next((rank for rank in range(processes.world_size) if store.check([f"error-{rank}"])), None)
    store.set("heard", "1")
    if known is None or known == processes.rank:
        return (
            RunFailed("another process of this run was lost", "run the same command again: what was done is kept")
            if lost
            else error
        )
    told: HubError = pickle.loads(store.get(f"error-{known}"))[1]
    told.message = f"process {known}: {told.message}"
    return told


def _wait(store: Store, error: Exception) -> None:
    until = time.monotonic() + ERROR_TIMEOUT_S
    while time.monotonic() < until:
        with contextlib.suppress(Exception):
            if store.check(["heard"]):
                return
        time.sleep(0.1)
    print(f"error: {error}", file=sys.__stderr__, flush=True)  # the first process is deep in its own work
