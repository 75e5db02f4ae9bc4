"""Staging folders of a store. Their names (machine, process, random) tell whose process is gone."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from ..core.errors import RunFailed

STAGING = ".staging"


@contextlib.contextmanager
def staging_folder(root: Path) -> Iterator[Path]:
    """An empty folder on the disk of the store at `root`, removed afterwards whatever happens.

    What killed processes left is removed first. Raises `RunFailed` where nothing can be written.
    """
    try:
        for left in abandoned(root):
            shutil.rmtree(left, ignore_errors=True)
        folder = root / STAGING / f"{_machine()}.{os.getpid()}.{uuid.uuid4().hex}"
        folder.mkdir(parents=True)
    except OSError as error:
        raise RunFailed(
            f"cannot write into {root}: {error.strerror}", "choose another --workspace, or mend its permissions"
        ) from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def abandoned(root: Path) -> list[Path]:
    """The staging folders of a store that a process of this machine left, and that process is gone."""
    return sorted(folder for folder in (root / STAGING).glob(f"{_machine()}.*.*") if not _is_alive(folder))


def _is_alive(folder: Path) -> bool:
    try:
        os.kill(int(folder.name.split(".")[-2]), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True  # of another user
    return True


def _machine() -> str:
    import platform  # 0.02 s that only writers need

    return platform.node().replace("/", "-") or "localhost"
