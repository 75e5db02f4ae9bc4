"""Do the locked versions fit together on every Python and platform that is named? `make lock-check`.

uv resolves what is installed there, from wheels alone (two packages have none and are pure Python). Nothing is
installed or run. The package index must be reachable; a minute or two the first time.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = {
    "Linux x86-64": "x86_64-manylinux_2_28",
    "Linux arm64": "aarch64-manylinux_2_28",
    "macOS arm64": "aarch64-apple-darwin",
}
PROFILES = ("core", "test", "dev")
SOURCE_ONLY = ("py2store", "transformers-stream-generator")
MACOS = "14.0"
"""The oldest macOS that torch has wheels for."""


class Cell(NamedTuple):
    profile: str
    platform: str
    python: str


def command(cell: Cell) -> list[str]:
    extras = [] if cell.profile == "core" else ["--extra", cell.profile]
    files = ["--constraints", "constraints/cpu.txt", "--overrides", "constraints/overrides.txt"]
    files += ["--overrides", "constraints/overrides-cpu.txt"]
    wheels = ["--only-binary", ":all:", *(part for name in SOURCE_ONLY for part in ("--no-binary", name))]
    where = ["--python-version", cell.python, "--python-platform", PLATFORMS[cell.platform]]
    quiet = ["--no-header", "--no-annotate", "--no-python-downloads"]
    uv = str(Path(sys.executable).with_name("uv"))
    return [uv, "pip", "compile", "pyproject.toml", *quiet, *extras, *files, *wheels, *where]


def resolve(cell: Cell) -> tuple[int, str]:
    """(number of packages, what uv said where it found no way). Wheels that lie on this machine alone do not count."""
    local = ("PIP_FIND_LINKS", "UV_FIND_LINKS")
    env = {key: value for key, value in os.environ.items() if key not in local} | {"MACOSX_DEPLOYMENT_TARGET": MACOS}
    done = subprocess.run(command(cell), cwd=ROOT, env=env, capture_output=True, text=True)
    return (len(done.stdout.splitlines()), "") if done.returncode == 0 else (0, done.stderr[-1500:])


def table(found: dict[Cell, tuple[int, str]]) -> str:
    """Packages by profile, platform and Python."""
    lines = [f"{'packages':<20}" + "".join(f"{python:>7}" for python in PYTHONS)]
    for profile, platform in product(PROFILES, PLATFORMS):
        counts = [found[Cell(profile, platform, python)][0] or "none" for python in PYTHONS]
        lines.append(f"{profile:<5}{platform:<15}" + "".join(f"{count:>7}" for count in counts))
    return "\n".join(lines)


def main() -> int:
    cells = [Cell(*each) for each in product(PROFILES, PLATFORMS, PYTHONS)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(cells, pool.map(resolve, cells), strict=True))
    print(table(found))
    for cell, (_, said) in found.items():
        if said:
            print(f"\n{cell.profile}, {cell.platform}, Python {cell.python}:\n{said}", file=sys.stderr)
    return int(any(said for _, said in found.values()))


if __name__ == "__main__":
    sys.exit(main())
