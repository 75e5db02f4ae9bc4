"""Steps that are done once: each makes one folder or record, is timed, and is left out when the run is repeated."""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
COMMAND = "import sys; from resa_hub.cli.app import run; sys.exit(run(sys.argv[1:]))"


def cpu_seconds() -> float:
    """Of this process and of the commands it has waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class Steps:
    """`steps.json` of the workspace: name -> what a finished step gave and cost. A killed step is begun again; the product's commands go on by themselves."""

    def __init__(self, home: Path) -> None:
        self.home, self.file = home, home / "steps.json"
        home.mkdir(parents=True, exist_ok=True)
        self.done: dict[str, dict[str, Any]] = json.loads(self.file.read_text()) if self.file.is_file() else {}

    def once(self, name: str, work: Callable[[], Any]) -> Any:
        """The result of `work`, from the record where there is one."""
        if name not in self.done:
            print(f"{name}", flush=True)
            wall, cpu = time.monotonic(), cpu_seconds()
            result = work()
            cost = {"seconds": round(time.monotonic() - wall, 1), "cpu_seconds": round(cpu_seconds() - cpu, 1)}
            self.done[name] = {"result": result, **cost}
            written = self.file.with_suffix(".new")
            written.write_text(json.dumps(self.done, indent=1) + "\n")
            os.replace(written, self.file)
            print(f"{name}: {cost['seconds']:.0f} s, {cost['cpu_seconds']:.0f} s of CPU", flush=True)
        return self.done[name]["result"]

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
        """`resa-hub ARGUMENTS --json` in a process of its own; what it prints. A command that fails ends the run with its own message."""
        called = [*arguments, "--json", "--workspace", str(self.home)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", COMMAND, *called], stdout=subprocess.PIPE, text=True, env=environment)
        if done.returncode:
            raise SystemExit(f"resa-hub {' '.join(called)}: exit {done.returncode}; run again to go on")
        return json.loads(done.stdout)
