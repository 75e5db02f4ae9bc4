"""A command line with a person at it: a pseudo-terminal that types the answers."""

import os
import pty
import re
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.helpers.commands import HANG, RUN, environment


class Typed(NamedTuple):
    code: int
    shown: str
    """All that the terminal showed."""


def at_terminal(*arguments: str, answer: str, cwd: Path | None = None) -> Typed:
    """`resa-hub ARGUMENTS` at a terminal where `answer` and Return are typed."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment(),
            cwd=cwd,
        )
        os.close(theirs)
        os.write(ours, f"{answer}\n".encode())
        shown = _read_all(ours)
        return Typed(process.wait(timeout=HANG), shown)
    finally:
        os.close(ours)


def _read_all(terminal: int) -> str:
    parts = []
    while True:
        try:
            part = os.read(terminal, 65_536)
        except OSError:  # how Linux says that nobody writes there any more
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts).decode(errors="replace")


def shown_at(width: int, show: Callable[[], object], monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    """What `show` writes in this process to a real terminal of so many columns, both streams in their order."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, width))
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(_read_all(ours)))
    reader.start()
    try:
        with monkeypatch.context() as patch, open(theirs, "w", encoding="utf-8") as window:
            for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):
                patch.delenv(name, raising=False)
            for name, value in ({"TERM": "xterm-256color"} | environment).items():
                patch.setenv(name, value)
            patch.setattr(sys, "stdout", window)
            patch.setattr(sys, "stderr", window)
            show()
            window.flush()
    finally:
        reader.join()
        os.close(ours)
    return read[0].replace("\r\n", "\n")


def without_codes(shown: str) -> str:
    """The text alone, without colours and without blanks at the ends of lines."""
    return re.sub(r" +$", "", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown), flags=re.MULTILINE)
