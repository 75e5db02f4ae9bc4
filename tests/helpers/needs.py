"""What a test needs beside Python and this repository: where it is missing the test is skipped, with what to type; in
CI, where everything is installed, it fails.
"""

import os
from collections import Counter
from importlib.util import find_spec
from typing import NoReturn

import pytest

from resa_hub.core.install import how_to_get
from scripts import setup_programs


def missing(what: str, step: str) -> NoReturn:
    """Skip the test that runs, or fail it in CI."""
    said = f"{what}: {step}"
    if os.environ.get("CI"):
        pytest.fail(said, pytrace=False)
    pytest.skip(said)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Each need that was missing, once."""
    reasons = Counter(str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", []))
    for reason, count in reasons.items():
        if reason.startswith("Skipped: needs "):
            terminalreporter.write_line(f"{count} skipped: {reason.removeprefix('Skipped: ')}")


def program(name: str) -> str:
    """The path of one of `setup_programs.PROGRAMS`."""
    found = setup_programs.find(name)
    return found or missing(f"needs {name}", f"make setup, or {setup_programs.how_to_install([name])}")


def package(module: str, extra: str) -> None:
    """A module that an extra of this project installs."""
    if find_spec(module) is None:
        missing(f"needs the extra {extra}", how_to_get(extra))
