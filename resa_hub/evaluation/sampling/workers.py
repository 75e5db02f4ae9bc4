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

from ...core.devices import gpu_count
from ...core.errors import HubError, RunFailed
from ...core.progress import Advance, Progress, speak_through
from .jobs import EngineJob, SamplingConfig, run_engine
from .samples import SampleStore

POLL_S = 0.2


def share(config: SamplingConfig, job: EngineJob, folder: Path, advance: Advance, quiet: bool = False) -> None:
    """Run `job` in `config.engines.workers` processes that all write to the sample store in `folder`, each on
    `tensor_parallel` GPUs of its own where there are any. A process that fails or dies, or does not see its GPUs, ends
    the run; what all had finished is kept. quiet: the first process says nothing of what it waits for.
    """
    context = multiprocessing.get_context("spawn")  # torch and CUDA do not survive a fork
    queue = context.Queue()
    size = -(-len(job.missing) // config.engines.workers)
    starts = range(0, len(job.missing), size)
    shares = [job._replace(missing=job.missing[start : start + size]) for start in starts]
    processes = []
    try:
        for number, part in enumerate(shares):
            with _environment(number, config.engines.workers, config.engines.tensor_parallel):
                gpus = config.engines.tensor_parallel if gpu_count() else 0
                arguments = (config, part, folder, queue, gpus, quiet or number > 0)
                process = context.Process(target=_worker, args=arguments, daemon=False)
                process.start()
                processes.append(process)
        _follow(processes, queue, advance)
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
            process.join()


def _follow(processes: list[Any], queue: Any, advance: Advance) -> None:
    """Until every process has reported its end; raises what a process raised, `RunFailed` where one died."""
    running = len(processes)
    while running:
        try:
            message = queue.get(timeout=POLL_S)
        except Empty:
            lost = [process for process in processes if process.exitcode not in (None, 0)]
            if lost and queue.empty():
                raise RunFailed(
                    f"a process of the engine died (exit code {lost[0].exitcode})",
                    "run the same command again: what was finished is kept",
                ) from None
            continue
        if isinstance(message, HubError):
            raise message
        if message is None:
            running -= 1
        else:
            advance(message)


def _worker(config: SamplingConfig, job: EngineJob, folder: Path, queue: Any, gpus: int, quiet: bool) -> None:
    """Puts numbers of finished samples on the queue, then None, or the error that ended it. gpus: so many must be
    seen.
    """
    speak_through(Progress(quiet=quiet))
    store = SampleStore(folder)
    try:
        if gpu_count() < gpus:
            devices = os.environ["CUDA_VISIBLE_DEVICES"]
            raise RunFailed(
                f"a worker was given {gpus} GPUs (CUDA_VISIBLE_DEVICES={devices}) and torch sees {gpu_count()} there",
                "fewer --workers, or name the GPUs that work in CUDA_VISIBLE_DEVICES",
            )
        run_engine(config, job, store, queue.put)
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
    cores = max(1, (os.cpu_count() or 1) // workers)
    changes = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(cores))}
    if gpu_count():
        visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        own = range(number * gpus, (number + 1) * gpus)
        changes["CUDA_VISIBLE_DEVICES"] = ",".join(visible[own.start : own.stop] if visible else map(str, own))
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
