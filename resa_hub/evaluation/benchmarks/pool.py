"""Processes that compare answers, each with a time limit that holds whatever the answer is: a process that overruns it
is killed and replaced.
"""

import atexit
import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from .outcomes import TIMED_OUT, Outcome, Pair

LIMIT = 25.0
"""Seconds a comparison may take; math-verify gives up on its own after a few steps of 5, except inside of C."""
START = 120.0
"""Seconds a new process may take until its first answer, on a busy machine."""


class Worker:
    """One process, used by one thread."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def ask(self, pair: Pair) -> Outcome:
        process = self.process or self._start()
        assert process.stdin and process.stdout
        try:
            process.stdin.write(json.dumps(pair).encode() + b"\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], LIMIT)
            line = process.stdout.readline() if ready else b""
        except OSError:
            line = b""
        if line.endswith(b"\n"):
            return json.loads(line)
        self.stop()
        return TIMED_OUT

    def _start(self) -> subprocess.Popen[bytes]:
        package = str(Path(__file__).parents[3])
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-m", f"{__package__}.worker"]
        environment = os.environ | {"PYTHONPATH": path}
        self.process = process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            bufsize=0,
        )
        assert process.stdin and process.stdout
        process.stdin.write(b'["1", "2", false]\n')  # the imports take their own time, not the first answer's
        ready, _, _ = select.select([process.stdout], [], [], START)
        if not ready or process.stdout.readline() != b"false\n":
            self.stop()
            raise OSError("the process that compares answers does not start")
        return process

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


class Pool:
    def __init__(self, size: int) -> None:
        self.threads = ThreadPoolExecutor(size, "grading")
        self.own = threading.local()
        self.workers: list[Worker] = []
        self.known: dict[Pair, Outcome] = {}

    def verify(self, pairs: Iterable[Pair]) -> dict[Pair, Outcome]:
        pairs = list(pairs)
        new = [pair for pair in pairs if pair not in self.known]
        self.known.update(zip(new, self.threads.map(self._one, new), strict=True))
        return {pair: self.known[pair] for pair in pairs}

    def _one(self, pair: Pair) -> Outcome:
        if not hasattr(self.own, "worker"):
            self.own.worker = Worker()
            self.workers.append(self.own.worker)
        return self.own.worker.ask(pair)

    def stop(self) -> None:
        self.threads.shutdown(wait=False, cancel_futures=True)
        for worker in self.workers:
            worker.stop()


@cache
def _pool() -> Pool:
    pool = Pool(
        max(1, min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))
    )
    atexit.register(pool.stop)
    return pool


def verify(pairs: Iterable[Pair]) -> dict[Pair, Outcome]:
    """Each pair's outcome by math-verify; what was asked once in this process is not asked again."""
    return _pool().verify(pairs)
