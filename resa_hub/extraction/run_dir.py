"""The unfinished work of one extraction: a folder that outlives a killed process and belongs to one process at a
time.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ..core.errors import Conflict, RunFailed


class Work:
    """`folder` holds the states of stage I and II. It is removed when the adapter is in the store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def begun(self) -> bool:
        """Whether an earlier run left a state."""
        return any(self.folder.glob("*.pt"))

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def hold(root: Path, key: str) -> Iterator[Work]:
    """The work folder `root/key` under a lock that the system lets go of when the process dies, however it dies.

    Raises `Conflict` while another process holds it, `RunFailed` where nothing can be written.
    """
    import filelock

    work = Work(root / key)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(root / f"{key}.lock", timeout=0):
            work.folder.mkdir(exist_ok=True)
            for half in work.folder.glob("*.new"):
                half.unlink()  # a state that a killed process was writing
            try:
                yield work
            finally:
                with contextlib.suppress(OSError):
                    work.folder.rmdir()  # only when nothing was kept
    except filelock.Timeout:
        raise Conflict(
            f"another process is running this very extraction in {work.folder}",
            "wait for it to end, or end it: what it did is kept",
        ) from None
    except PermissionError as error:
        raise RunFailed(
            f"cannot write into {root}: {error.strerror}", "choose another --workspace, or mend its permissions"
        ) from None


def seconds_between_states() -> float:
    """RESA_HUB_STATE_SECONDS, else 30: how much work a kill can cost. 0 writes a state at every step."""
    try:
        return max(0.0, float(os.environ.get("RESA_HUB_STATE_SECONDS", "30")))
    except ValueError:
        return 30.0
