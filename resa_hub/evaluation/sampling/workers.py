"""Samples shared out over processes, each with an engine of its own: data parallel on GPUs, both cores for small models
on a CPU.
"""

import contextlib
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from queue import Empty
from typing import Any

from ...core.errors import HubError, RunFailed
from ...core.progress import Advance
from .jobs import EngineJob, SamplingConfig, run_engine
from .samples import SampleStore

POLL = 0.2


def share(asked: SamplingConfig, part: EngineJob, folder: Path, workers: int, gpus: int, advance: Advance) -> None:
    """Run `part` in `workers` processes that all write to the sample store in `folder`, each on `gpus` GPUs of its own
    where there are any. A process that fails or dies ends the run; what all had finished is kept.
    """
    context = multiprocessing.get_context("spawn")  # torch and CUDA do not survive a fork
    queue = context.Queue()
    size = -(-len(part.jobs) // workers)
    parts = [part._replace(jobs=part.jobs[start : start + size]) for start in range(0, len(part.jobs), size)]
    processes = []
    try:
        for number, own in enumerate(parts):
            with _environment(number, workers, gpus):
                process = context.Process(target=_worker, args=(asked, own, folder, queue), daemon=False)
                process.start()
                processes.append(process)
        _follow(processes, queue, advance)
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
            process.join()


def _follow(processes: list[Any], queue: Any, advance: Advance) -> None:
    """Until every process has said that it is done."""
    waiting = len(processes)
    while waiting:
        try:
            said = queue.get(timeout=POLL)
        except Empty:
            lost = [p for p in processes if p.exitcode not in (None, 0)]
            if lost and queue.empty():
                raise RunFailed(
                    f"a process of the engine died (exit code {lost[0].exitcode})",
                    "run the same command again: what was finished is kept",
                ) from None
            continue
        if isinstance(said, HubError):
            raise said
        if said is None:
            waiting -= 1
        else:
            advance(said)


def _worker(asked: SamplingConfig, part: EngineJob, folder: Path, queue: Any) -> None:
    store = SampleStore(folder)
    try:
        run_engine(asked, part, store, queue.put)
        queue.put(None)
    except HubError as error:
        error.__cause__ = None  # may not be picklable
        queue.put(error)
    finally:
        store.close()


@contextlib.contextmanager
def _environment(number: int, workers: int, gpus: int) -> Iterator[None]:
    """What the next process sees, for its environment is copied when it starts: GPUs of its own, and its share of the
    cores.
    """
    given = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    first = number * gpus
    seen = given[first : first + gpus] if given else [str(n) for n in range(first, first + gpus)]
    told = {
        "CUDA_VISIBLE_DEVICES": ",".join(seen),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers))),
    }
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
