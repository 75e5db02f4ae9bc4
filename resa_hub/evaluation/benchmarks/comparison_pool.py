"""Compares mathematical answers with math-verify, in processes that are killed when a comparison takes too long.

math-verify limits its own time by SIGALRM: only the main thread of a process may set it, and it cannot interrupt sympy
inside C (a power of powers). Hence processes, and a limit from outside.
"""

import atexit
import faulthandler
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType
from typing import Any

from pebble import ProcessPool

from .base import TIMED_OUT, UNREADABLE, Outcome, Pair

LIMIT_S = 25.0
"""Seconds a comparison may take; math-verify gives up on its own after a few steps of `STEP_LIMIT_S`, except in C."""
STEP_LIMIT_S = 5
"""Seconds math-verify may take to read one answer, or to compare two."""
START_LIMIT_S = 120.0
"""Seconds a new process may take until it has compared something, on a busy machine."""
MAX_PROCESSES = 8
_outcomes: dict[Pair, Outcome] = {}


def verify(pairs: Iterable[Pair]) -> dict[Pair, Outcome]:
    """Each pair's outcome by math-verify, in the given order; no pair is compared twice in one run of the program.

    Raises `OSError` where the processes do not start.
    """
    pairs = list(pairs)
    new = [pair for pair in pairs if pair not in _outcomes]
    if new:
        _outcomes.update(zip(new, _compare_all(new), strict=True))
    return {pair: _outcomes[pair] for pair in pairs}


def _compare_all(pairs: Sequence[Pair]) -> list[Outcome]:
    for _ in range(2):  # pebble gives up a whole pool when a process dies while none has work
        pool = _pool()
        try:
            return _compare_in(pool, pairs)
        except BaseException as error:  # Ctrl-C too: nothing goes on in the background
            _pool.cache_clear()
            _stop(pool)
            if not isinstance(error, RuntimeError):
                raise
    raise OSError("the process that compares answers does not start")


def _compare_in(pool: ProcessPool, pairs: Sequence[Pair]) -> list[Outcome]:
    futures = [pool.schedule(_compare, (pair, LIMIT_S), timeout=LIMIT_S) for pair in pairs]
    while wait(futures, timeout=1.0).not_done:
        if not pool.active:  # it leaves what it has not begun undone for ever
            raise BrokenProcessPool
    return [_outcome(future) for future in futures]


def _outcome(future: Future[Outcome]) -> Outcome:
    """The result; a process that died or was killed gives TIMED_OUT, and so does an error inside of math-verify."""
    error = future.exception()
    if isinstance(error, BrokenProcessPool):
        raise error
    return future.result() if error is None else TIMED_OUT


@cache
def _pool() -> ProcessPool:
    # The helper process that removes what a killed program leaves in /dev/shm would say so on the terminal.
    sys.warnoptions.append("ignore:resource_tracker")
    resource_tracker.ensure_running()
    sys.warnoptions.remove("ignore:resource_tracker")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pool = ProcessPool(min(MAX_PROCESSES, cores), initializer=_start, context=_Context())
    atexit.register(_stop, pool)
    return pool


def _stop(pool: ProcessPool) -> None:
    pool.stop()
    pool.join()


class _Process(SpawnProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        """Start a process that does not import the main module: a script without `if __name__ == "__main__"` would run
        again in it, and one from stdin has no file. Ctrl-C stays blocked in it.
        """
        main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return SpawnProcess._Popen(process_obj)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            sys.modules["__main__"] = main


class _Context(SpawnContext):
    Process = _Process


def _start() -> None:
    """Run in each process before its first pair, so that no limit of a comparison counts the imports."""
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # pebble's handler in Python would wait until C returns
    _compare(Pair("1", "2"), START_LIMIT_S)


def _compare(pair: Pair, limit: float) -> Outcome:
    # The last resort, by a thread that needs no interpreter lock: the program that would kill this process may be gone.
    faulthandler.dump_traceback_later(limit + 5, exit=True)
    try:
        return equal(*pair)
    finally:
        faulthandler.cancel_dump_traceback_later()


def equal(gold: str, answer: str | None, loose: bool) -> Outcome:
    """Is the answer the gold? In this order: math-verify is not symmetric. In a loose answer math-verify looks for one
    itself.
    """
    from math_verify import parse, verify

    start = time.monotonic()

    def unless_late(outcome: Outcome) -> Outcome:
        return TIMED_OUT if time.monotonic() - start >= STEP_LIMIT_S else outcome

    same_text = answer is not None and not loose and gold.strip() == answer.strip()
    parsed_gold = _parse_boxed(gold)
    if all(isinstance(part, str) for part in parsed_gold):
        # No mathematics in the gold: equal texts are right, but others are not known to be wrong.
        return True if same_text and gold.strip() else unless_late(UNREADABLE)
    if answer is None or same_text:
        return True
    parsed = parse(answer, parsing_timeout=STEP_LIMIT_S) if loose else _parse_boxed(answer)
    right = bool(parsed) and bool(verify(parsed_gold, parsed, timeout_seconds=STEP_LIMIT_S))
    return True if right else unless_late(False)


def _parse_boxed(text: str) -> list[Any]:
    """What math-verify reads in a box of this content; `4.5e33` counts as a number, not as a product with Euler's."""
    from math_verify import LatexExtractionConfig, parse

    plain = re.sub(r"(?<=[\w})\]])\.$", "", re.sub(r"(?<!\\)\$", "", text).strip())
    plain = re.sub(r"(?<=\d)[eE]([+-]?\d{1,3})(?![\w.])", r"\\times 10^{\1}", plain)
    if not plain:
        return []
    config = LatexExtractionConfig(boxed_match_priority=0)
    return parse(f"\\boxed{{{plain}}}", extraction_config=(config,), parsing_timeout=STEP_LIMIT_S)
