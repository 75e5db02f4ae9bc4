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
    *arguments: str, cwd: Path | None = None, timeout: float = 600, **changes: str | None
) -> subprocess.CompletedProcess[str]:
    """`resa-hub ARGUMENTS` in a process of its own; timeout, seconds: against a hang, since on a busy machine 10 s of
    CPU may take minutes.
    """
    command = [sys.executable, "-c", RUN, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment(**changes), capture_output=True, text=True, timeout=timeout)


def cpu_seconds(*arguments: str) -> float:
    """User and system time of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert resa_hub(*arguments).returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


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
