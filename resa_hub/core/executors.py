"""Independent tasks, one after another here or side by side on a Ray cluster. Each task keeps its own results, so a run
that was killed repeats little.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .errors import HubError, MissingExtra, RunFailed, Usage, did_you_mean

EXECUTORS = ("local", "ray")
Task = Callable[[], Any]


def run(tasks: Sequence[Task], executor: str = "local") -> Iterator[tuple[int, Any]]:
    """(place, result) of each task as it ends. A task that raises one of our errors ends the run with it; tasks must be
    picklable for ray.

    Raises `Usage` for an unknown executor, `MissingExtra` without Ray, `RunFailed` when a worker dies.
    """
    if executor not in EXECUTORS:
        raise Usage(f"no executor is called {executor!r}", did_you_mean(executor, list(EXECUTORS)))
    return _ray(tasks) if executor == "ray" else ((place, task()) for place, task in enumerate(tasks))


def _ray(tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
    try:
        import ray
    except ImportError:
        raise MissingExtra("the executor ray needs Ray", "pip install 'resa-hub[ray]'") from None
    from ray.exceptions import RayError

    begun = not ray.is_initialized()
    if begun:  # RAY_ADDRESS names a cluster; without it one is started on this machine
        os.environ.setdefault(
            "RAY_worker_niceness", "0"
        )  # its 15 on top of the command's own starve a worker beside any other load
        ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
    gpus = 1 if ray.cluster_resources().get("GPU") else 0
    remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=2)(_caught)
    waiting = {remote.remote(task): place for place, task in enumerate(tasks)}
    try:
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            try:
                result, error = ray.get(done)
            except RayError as lost:
                raise RunFailed(
                    f"a worker was lost: {str(lost).splitlines()[0][:160]}",
                    "run the same command again: finished tasks are kept",
                ) from None
            if error is not None:
                raise error
            yield waiting.pop(done), result
    finally:
        for task in waiting:
            ray.cancel(task, force=True)
        if begun:
            ray.shutdown()


def _caught(task: Task) -> tuple[Any, HubError | None]:
    """Our own errors travel as values: Ray would wrap them in its own."""
    try:
        return task(), None
    except HubError as error:
        return None, error
