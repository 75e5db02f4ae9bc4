"""The state of long work on disk: written whole or not at all, and read back after a kill."""

import os
import pickle
import time
from pathlib import Path
from typing import Any

import torch

from ..core.errors import RunFailed
from .distributed import SINGLE_PROCESS, ProcessGroup

MAX_SHARE = 20
"""States are written so rarely that writing takes at most one part in this many of the time."""


class Checkpoint:
    """Named states in one folder. Without a folder nothing is written, and the work starts anew each time.

    Of several processes only the first one uses the folder, and all go on from the state it reads there.
    """

    def __init__(
        self, folder: Path | None = None, every: float = 30.0, processes: ProcessGroup = SINGLE_PROCESS
    ) -> None:
        """every: seconds between two states of running work, more where writing one takes long; 0 writes one at each
        step.
        """
        self.folder = folder if processes.is_main_process else None
        self.every = every
        self.processes = processes
        self._pause = every
        self._last = time.monotonic()

    def load(self, name: str) -> dict[str, Any] | None:
        """The state last saved under this name, None without one that can be read whole. A collective operation: all
        processes of a group must call it together.
        """
        return self.processes.broadcast(self._read(name))

    def _read(self, name: str) -> dict[str, Any] | None:
        path = self._path(name)
        if path is None or not path.is_file():
            return None
        try:
            return torch.load(path, weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            return None

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Write tensors and plain values under this name; raises `RunFailed` when the disk is full: the state written
        before is kept then.
        """
        path = self._path(name)
        if path is None:
            return
        staged, began = path.with_suffix(f".{os.getpid()}.new"), time.monotonic()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with staged.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(staged, path)
        except (OSError, RuntimeError) as error:
            staged.unlink(missing_ok=True)
            raise RunFailed(
                f"the state of this run cannot be written to {path.parent}: {error}",
                "free some disk space and run the command again",
            ) from None
        self._last = time.monotonic()
        self._pause = max(self._pause, MAX_SHARE * (self._last - began)) if self.every else 0.0

    def due(self) -> bool:
        """Whether it is time for the next state."""
        return self.folder is not None and time.monotonic() - self._last >= self._pause

    def _path(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{name}.pt"
