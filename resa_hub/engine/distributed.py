"""One extraction on several processes under torchrun: the first decides, writes and prints, all compute; every step
sees the batch that one process would see.

Data-parallel: each process takes every n-th row, gradients are summed. The result equals that of one process up to the
order of the sums.
"""

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage]
from torch.distributed.rendezvous import rendezvous

from ..core import errors, torchrun
from ..core.errors import HubError, RunFailed
from .model.tokens import Batch

ERROR_TIMEOUT_S = 60.0
"""Seconds that a process which failed waits for the first one to report it: torchrun ends all as soon as one has ended.
"""
COLLECTIVE_TIMEOUT = timedelta(days=7)
"""The others wait for rollouts that the first one generates."""
REPORTED_KEY = "heard"
"""Stands in the store once the first process knows which error it reports."""
RUN_AGAIN = "run the same command again: what was done is kept"


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
        """The rows of `batch` that this process computes."""
        if self.is_single:
            return batch
        return batch._replace(ids=batch.ids[self.rows], completion=batch.completion[self.rows])

    def broadcast(self, value: Any = None) -> Any:
        """The value of the first process, in every process.

        It is a checkpoint with its tensors, a list of completions or an adapter.
        """
        if self.is_single:
            return value
        # Pickled by torch, because it holds tensors and paths. It comes over the connection that carries the gradients:
        # whoever can write there decides over the result anyway.
        values = [value if self.is_main_process else None]
        distributed.broadcast_object_list(values, src=0)
        return values[0]

    def all_reduce_(self, *tensors: Tensor) -> None:
        """Replace each by its sum over all processes, in one message."""
        if self.is_single:
            return
        flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
        distributed.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def all_reduce_min_(self, tensor: Tensor) -> None:
        """Replace each entry by its minimum over all processes."""
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
    """Sums the gradient of each parameter over all processes as soon as it is there.

    `share`: this process's part of the batch, where its loss is a mean.
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
    store, rank, world_size = next(iter(rendezvous("env://", timeout=COLLECTIVE_TIMEOUT)))
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=COLLECTIVE_TIMEOUT)
    processes = ProcessGroup(rank, world_size)
    try:
        yield processes
    except Exception as error:
        raise _first_error(store, processes, error) from error
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _first_error(store: Store, processes: ProcessGroup, error: Exception) -> Exception:
    """The error of the process that failed first, as this process must raise it.

    A process that fails puts its error into the store and leaves the group. The others learn of it when their next
    message fails. Whoever failed waits until the first process has read it, for that one reports it.
    """
    lost = _lost_connection(error)
    if lost:
        time.sleep(1)  # a process that failed writes its error before it leaves the group
    else:
        store.set(_error_key(processes.rank), _to_json(error))
    with contextlib.suppress(Exception):
        distributed.destroy_process_group()
    if not processes.is_main_process and not lost:
        _wait_until_reported(store, error)
        return error
    failed = next((rank for rank in range(processes.world_size) if store.check([_error_key(rank)])), None)
    store.set(REPORTED_KEY, "1")
    if failed is None and lost:
        return RunFailed("another process of this run was lost", RUN_AGAIN)
    if failed is None or failed == processes.rank:
        return error
    first = _from_json(store.get(_error_key(failed)))
    first.message = f"process {failed}: {first.message}"
    return first


def _lost_connection(error: Exception) -> bool:
    """Whether this error says only that another process is gone."""
    if isinstance(error, HubError) or not isinstance(error, RuntimeError):
        return False
    return any(word in str(error).lower() for word in ("gloo", "nccl", "connection"))


def _error_key(rank: int) -> str:
    return f"error-{rank}"


def _to_json(error: Exception) -> str:
    """Class, message and hint of one of our errors; any other one as the `RunFailed` that names it."""
    if not isinstance(error, HubError):
        first_line = next(iter(str(error).splitlines()), "")
        error = RunFailed(f"{type(error).__name__}: {first_line[:200]}")
    return json.dumps({"class": type(error).__name__, "message": error.message, "hint": error.hint})


def _from_json(data: bytes) -> HubError:
    """The error that `_to_json` wrote; `RunFailed` for data that it did not write."""
    try:
        fields = json.loads(data)
        kind = getattr(errors, fields["class"])
        if issubclass(kind, HubError) and isinstance(fields["message"], str) and isinstance(fields["hint"], str):
            return kind(fields["message"], fields["hint"])
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    return RunFailed("it failed, and its error cannot be read", RUN_AGAIN)


def _wait_until_reported(store: Store, error: Exception) -> None:
    deadline = time.monotonic() + ERROR_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(Exception):
            if store.check([REPORTED_KEY]):
                return
        time.sleep(0.1)
    print(f"error: {error}", file=sys.__stderr__, flush=True)  # the first process is deep in its own work
