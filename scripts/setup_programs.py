"""The programs that tests use beside Python: a browser, its driver, a container registry.

`python3 scripts/setup_programs.py` installs what is missing where it may (apt-get, as root or with a sudo that asks for
no password), else it says what to type. Standard library only. With CI set, one that is missing at the end is an error.
"""

import os
import shutil
import subprocess
import sys
from typing import NamedTuple

APPS = "/Applications/{0}.app/Contents/MacOS/{0}"


class Program(NamedTuple):
    names: list
    """On the PATH, the usual one first."""
    packages: str
    """Of Debian."""
    about: str
    places: list = []
    """Outside the PATH."""


PROGRAMS = {
    "chromium": Program(
        names=["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"],
        packages="chromium fonts-dejavu-core",
        about="Chromium or Chrome",
        places=[APPS.format("Chromium"), APPS.format("Google Chrome")],
    ),
    "chromedriver": Program(["chromedriver"], "chromium-driver", "chromedriver of the browser's version"),
    "docker-registry": Program(["docker-registry", "registry"], "docker-registry", "the registry of Distribution"),
}


def find(program: str) -> str:
    """Its path; empty where it is not installed."""
    known = PROGRAMS[program]
    found = next((path for path in map(shutil.which, known.names) if path), "")
    return found or next((place for place in known.places if os.access(place, os.X_OK)), "")


def apt_line(programs: list) -> str:
    packages = " ".join(PROGRAMS[program].packages for program in programs)
    return f"apt-get install --yes --no-install-recommends {packages}"


def how_to_install(programs: list) -> str:
    """What to type on this machine, or what to get."""
    if not shutil.which("apt-get"):
        return "put on the PATH: " + ", ".join(PROGRAMS[program].about for program in programs)
    return apt_line(programs) if _is_root() else f"sudo {apt_line(programs)}"


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _as_root() -> "list | None":
    """What stands before a command of root's; None where this person may not."""
    if _is_root():
        return []
    sudo = shutil.which("sudo")
    may = sudo and subprocess.run([sudo, "--non-interactive", "true"], capture_output=True).returncode == 0
    return [sudo, "--non-interactive"] if may else None


def install(programs: list) -> None:
    before = _as_root()
    if not shutil.which("apt-get") or before is None:
        return
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for line in ("apt-get update", apt_line(programs)):
        print("$", line, flush=True)
        subprocess.run([*before, *line.split(), "--quiet"], env=quiet, stdout=subprocess.DEVNULL)


def main() -> int:
    missing = [program for program in PROGRAMS if not find(program)]
    if missing:
        install(missing)
    left = [program for program in missing if not find(program)]
    if not left:
        return 0
    print(f"{' and '.join(left)} missing: the tests that need it are skipped. To run them:", file=sys.stderr)
    print(f"  {how_to_install(left)}", file=sys.stderr)
    return 1 if os.environ.get("CI") else 0


if __name__ == "__main__":
    sys.exit(main())
