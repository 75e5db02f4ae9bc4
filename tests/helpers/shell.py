"""A person's shell: commands of resa-hub, each in a process of its own, that need not wait for imports.

One process imports what is heavy and forks for every command, so that each begins as fresh as one that is typed.
"""

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from tests.helpers.commands import environment

LOOP = """
import json, os, sys
import datasets, matplotlib.pyplot, math_verify, peft, torch, transformers, resa_hub.engine.run
from resa_hub.cli.main import run

for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(asked["folder"])
        for descriptor, name in ((0, os.devnull), (1, asked["out"]), (2, asked["err"])):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), descriptor)
        code = run(asked["arguments"])
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Done(NamedTuple):
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str


class Shell:
    """Opened in a folder; `variables` are its environment beside ours."""

    def __init__(self, folder: Path, **variables: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.printed = folder, folder.parent / f"{folder.name}-printed"
        self.printed.mkdir()
        self.loop = subprocess.Popen(
            [sys.executable, "-c", LOOP],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(**variables),
            text=True,
        )

    def run(self, *arguments: str, folder: Path | None = None) -> Done:
        """`resa-hub ARGUMENTS` in the shell's folder, or in another."""
        assert self.loop.stdin and self.loop.stdout
        out, err = self.printed / "out", self.printed / "err"
        asked = {"arguments": arguments, "folder": str(folder or self.folder), "out": str(out), "err": str(err)}
        self.loop.stdin.write(json.dumps(asked) + "\n")
        self.loop.stdin.flush()
        code = self.loop.stdout.readline()
        assert code, "the shell died"
        return Done(int(code), out.read_text(), err.read_text())

    def __enter__(self) -> "Shell":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.loop.stdin:
            self.loop.stdin.close()
        self.loop.wait()
