"""Real subprocesses of the command line, and what they cost."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from resa_hub.cli.main import run
from tests.helpers.adapters import make_adapter

ROOT = Path(__file__).parents[2]
HANG = 1500.0
"""Seconds after which a process hangs: a machine that is slow or busy may take minutes for a second of work."""
RUN = "import sys; from resa_hub.cli.main import run; sys.exit(run(sys.argv[1:]))"


def environment(**changes: str | None) -> dict[str, str]:
    """The environment of a person who set nothing of ours; None removes a variable."""
    ours = {
        "RESA_HUB_WORKSPACE": None,
        "PYTHONDONTWRITEBYTECODE": None,
        "COLUMNS": "100",
        "PYTHONPATH": str(ROOT),
    } | changes
    return {key: value for key, value in (os.environ | ours).items() if value is not None}


def resa_hub(
    *arguments: str, cwd: Path | None = None, timeout: float = HANG, **changes: str | None
) -> subprocess.CompletedProcess[str]:
    """`resa-hub ARGUMENTS` in a process of its own; timeout in seconds."""
    command = [sys.executable, "-c", RUN, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment(**changes), capture_output=True, text=True, timeout=timeout)


KNOWN_WORK = """
import asyncio, concurrent.futures, ctypes, decimal, email.message, http.client, http.server, logging.config, sqlite3
import multiprocessing.managers, tarfile, unittest.mock, urllib.request, xml.dom.minidom, zipfile
"""
"""Imports of the standard library, which is what a light command does too."""
KNOWN_WORK_S = 0.20
"""CPU seconds of it on the machine whose budgets the tests hold."""


def children_cpu() -> float:
    """User and system time of all processes that this one has waited for."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def cpu_of(*command: str) -> float:
    """User and system time of one process, which must succeed."""
    before = children_cpu()
    subprocess.run(command, env=environment(), check=True, stdout=subprocess.DEVNULL, timeout=HANG)
    return children_cpu() - before


def least_cpu(*arguments: str, code: str = RUN) -> float:
    """CPU seconds of the least of five runs after one that writes the bytecode. On a machine that is slow or busy they
    are divided by how much longer than usual a known piece of work takes there, run in between.
    """
    ours, known = (sys.executable, "-c", code, *arguments), (sys.executable, "-c", KNOWN_WORK)
    cpu_of(*ours)
    cpu_of(*known)
    pairs = [(cpu_of(*ours), cpu_of(*known)) for _ in range(5)]
    least, reference = map(min, zip(*pairs, strict=True))
    return least / max(1.0, reference / KNOWN_WORK_S)


def stocked(folder: Path, count: int = 3) -> Path:
    """A workspace with the small adapters demo-0, demo-1, ..."""
    for number in range(count):
        make_adapter(folder / "adapters", f"demo-{number}", seed=number)
    return folder


def out(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command prints in this process; it must succeed."""
    code, printed = run(list(arguments)), capsys.readouterr()
    assert code == 0, printed.err
    return printed.out
