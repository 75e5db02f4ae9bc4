"""Independent tasks, one after another here or side by side on a Ray cluster.

Each task keeps its own results, so a run that was killed repeats little.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from .errors import HubError, RunFailed, Usage, did_you_mean
from .install import missing

EXECUTORS = ("local", "ray")
Task = Callable[[], Any]


def run_tasks(tasks: Sequence[Task], executor: str = "local") -> Iterator[tuple[int, Any]]:
    """(index, result) of each task as it ends; for ray tasks must be picklable.

    A task that raises a `HubError` ends the run with it. Raises `Usage` for an unknown executor, `MissingExtra` without
    Ray, `RunFailed` when a worker dies.
    """
    check_executor(executor)
    return _run_on_ray(tasks) if executor == "ray" else ((index, task()) for index, task in enumerate(tasks))


def check_executor(executor: str) -> None:
    """Raise `Usage` for an unknown executor, `MissingExtra` without Ray."""
    if executor not in EXECUTORS:
        raise Usage(f"no executor is called {executor!r}", did_you_mean(executor, list(EXECUTORS)))
    if executor == "ray" and not find_spec("ray"):
        raise missing("the executor ray needs Ray", "ray")


def _run_on_ray(tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
    import ray
    from ray.exceptions import RayError

    started = not ray.is_initialized()
    if started:
        # Ray's default of 15 on top of the command's own niceness starves a worker beside any other load.
        os.environ.setdefault("RAY_worker_niceness", "0")
        # RAY_ADDRESS names a cluster; without it one is started on this machine.
        ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
    gpus = 1 if ray.cluster_resources().get("GPU") else 0
    remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=2)(_outcome)
    waiting = {remote.remote(task): index for index, task in enumerate(tasks)}
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
        if started:
            ray.shutdown()


def _outcome(task: Task) -> tuple[Any, HubError | None]:
    """(result, error): our errors travel as values, for Ray would wrap them in its own."""
    try:
        return task(), None
    except HubError as error:
        return None, error
