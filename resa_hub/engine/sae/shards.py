"""Buffers of activations on disk, for data that is passed over several times and does not fit the memory."""

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

NAME = "states"


class Shards:
    """One safetensors file a buffer, in the model's own precision: what is read back equals what would be computed, bit
    for bit.

    limit: bytes; beyond it, and beyond half of the free disk, a buffer is computed at every use. What a killed run
    wrote is taken over: the folder must belong to one set of texts, models and hookpoint. A full disk is no error: a
    cache is no reason to stop.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for half in folder.glob("*.new"):
            half.unlink()
        present = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        self.left = min(limit - present, shutil.disk_usage(folder).free // 2)

    def get(self, number: int, make: Callable[[], Float[Tensor, "n d_in"]]) -> Float[Tensor, "n d_in"]:
        """The buffer of this number, read where it is there and whole."""
        path = self.folder / f"{number}.safetensors"
        if path.is_file():
            with contextlib.suppress(OSError, SafetensorError, KeyError):
                return load_file(path)[NAME]
        buffer = make()
        if buffer.nbytes <= self.left:
            self._keep(path, buffer)
        return buffer

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _keep(self, path: Path, buffer: Tensor) -> None:
        staged = path.with_suffix(".new")
        try:
            save_file({NAME: buffer}, staged)
            os.replace(staged, path)
            self.left -= buffer.nbytes
        except (OSError, SafetensorError):
            self.left = 0
            with contextlib.suppress(OSError):
                staged.unlink(missing_ok=True)
