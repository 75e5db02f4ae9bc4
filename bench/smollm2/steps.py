"""Steps that are done once: each makes one folder or record, is timed, and is left out when the run is repeated."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
COMMAND = "import sys; from resa_hub.cli.main import run; sys.exit(run(sys.argv[1:]))"


class Spent(threading.local):
    """CPU seconds of the commands that this thread has waited for: several arms may be at work."""

    commands = 0.0


class Steps:
    """`steps.json` of the workspace: name -> what a finished step gave and cost. A killed step is begun again; the
    product's commands go on by themselves.
    """

    def __init__(self, home: Path) -> None:
        self.home, self.file = home, home / "steps.json"
        self.spent, self.lock = Spent(), threading.Lock()
        self.environment = os.environ | {"PYTHONPATH": str(ROOT)}
        home.mkdir(parents=True, exist_ok=True)
        self.done: dict[str, dict[str, Any]] = json.loads(self.file.read_text()) if self.file.is_file() else {}

    def once(self, name: str, work: Callable[[], Any]) -> Any:
        """The result of `work`, from the record where there is one."""
        if name not in self.done:
            print(f"{name}", flush=True)
            wall, cpu = time.monotonic(), self._cpu()
            result = work()
            cost = {"seconds": round(time.monotonic() - wall, 1), "cpu_seconds": round(self._cpu() - cpu, 1)}
            with self.lock:
                self.done[name] = {"result": result, **cost}
                self._write()
            print(f"{name}: {cost['seconds']:.0f} s, {cost['cpu_seconds']:.0f} s of CPU", flush=True)
        return self.done[name]["result"]

    def _cpu(self) -> float:
        """Of this process, which works itself only when nothing else does, and of this thread's commands."""
        return time.process_time() + self.spent.commands

    def _write(self) -> None:
        written = self.file.with_suffix(".new")
        written.write_text(json.dumps(self.done, indent=1) + "\n")
        os.replace(written, self.file)

    def folder(self, name: str, make: Callable[[Path], None]) -> Path:
        """models/NAME, whole or not there."""
        folder, staged = self.home / "models" / name, self.home / "models" / f".{name}"

        def work() -> None:
            shutil.rmtree(staged, ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)
            staged.mkdir(parents=True)
            make(staged)
            os.replace(staged, folder)

        self.once(f"model {name}", work)
        return folder

    def command(self, *arguments: str) -> Any:
        """`resa-hub ARGUMENTS --json` in a process of its own; what it prints. A command that fails ends the run with
        its own message.
        """
        called = [*arguments, "--json", "--workspace", str(self.home)]
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *called], stdout=subprocess.PIPE, text=True, env=self.environment
        )
        assert process.stdout is not None
        with process.stdout as said:
            printed = said.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.spent.commands += used.ru_utime + used.ru_stime
        if process.returncode:
            raise SystemExit(f"resa-hub {' '.join(called)}: exit {process.returncode}; run again to go on")
        return json.loads(printed)
