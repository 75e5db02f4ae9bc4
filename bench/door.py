"""CPU time of the light commands, the least of seven runs, beside `python -c pass`."""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

COMMAND = "from resa_hub.cli.main import main; main()"


def cpu(arguments: list[str], environment: dict[str, str]) -> float:
    times = []
    for _ in range(7):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def main() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    home = Path(__file__).parent.parent
    with tempfile.TemporaryDirectory() as empty:
        for label, arguments in {
            "python -c pass": ["-c", "pass"],
            "--help": ["-c", COMMAND, "--help"],
            "list": ["-c", COMMAND, "list", "--workspace", str(home)],
            "list, empty store": ["-c", COMMAND, "list", "--workspace", empty],
            "show": ["-c", COMMAND, "show", "tina-tiny-feature-diff-l2", "--workspace", str(home)],
        }.items():
            print(f"  {label:18} {cpu(arguments, environment):.3f} s of CPU")
