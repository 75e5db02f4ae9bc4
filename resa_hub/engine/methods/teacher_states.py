"""The teacher's states for every batch, made when they are first needed and kept within bounds: in memory, then on
disk; beyond that they are made at every use.
"""

import contextlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, overload

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..distributed import SINGLE_PROCESS, ProcessGroup
from ..model.tokens import Batch


class TrainingExample(NamedTuple):
    batch: Batch
    teacher: Tensor | None
    """The teacher's final states [rows, positions, width], where there is a teacher."""
    weight: Tensor
    """[rows, positions]: the loss is sum(weight * loss of a position)."""
    start: Tensor | None = None
    """The student's state [rows, positions, width] at the hookpoint, where the prefix is shared."""

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors, the batch itself left out."""
        return sum(part.nbytes for part in (self.teacher, self.weight, self.start) if part is not None)


class TeacherStateCache(Sequence[TrainingExample]):
    """One example a batch. Memory does not grow with the data: beyond `memory` bytes and half of the free disk, an
    example is made at every use.

    make: called without gradient, a function of the batch alone; the rows of the group's other processes are left out
    of its example.
    folder: emptied first; without one nothing goes to disk.
    """

    def __init__(
        self,
        batches: Sequence[Batch],
        make: Callable[[Batch], TrainingExample],
        memory: int,
        folder: Path | None = None,
        processes: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.batches, self.make, self.folder, self.processes = batches, make, folder, processes
        self.memory_left, self.disk_left = memory, 0
        self._in_memory: dict[int, TrainingExample] = {}
        self._files: dict[int, Path] = {}
        if folder:
            shutil.rmtree(folder, ignore_errors=True)  # of a killed run: its last file may be cut
            folder.mkdir(parents=True)
            self.disk_left = shutil.disk_usage(folder).free // 2

    def __len__(self) -> int:
        return len(self.batches)

    @overload
    def __getitem__(self, index: int) -> TrainingExample: ...
    @overload
    def __getitem__(self, index: slice) -> list[TrainingExample]: ...
    def __getitem__(self, index: int | slice) -> TrainingExample | list[TrainingExample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index in self._in_memory:
            return self._in_memory[index]
        batch = self.batches[index]
        own_rows = self.processes.part(batch)
        if index in self._files:
            return TrainingExample(own_rows, **load_file(self._files[index]))
        if not own_rows.tokens:  # the batch has fewer rows than there are processes
            return TrainingExample(own_rows, torch.empty(0), torch.empty(0))
        with torch.no_grad():
            example = self.make(batch)
        self._keep(index, example)
        return example

    def close(self) -> None:
        """Let go of memory and files."""
        self._in_memory.clear()
        self._files.clear()
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _keep(self, index: int, example: TrainingExample) -> None:
        size = example.nbytes
        if size <= self.memory_left:
            self._in_memory[index] = example
            self.memory_left -= size
        elif self.folder and size <= self.disk_left:
            self._write(self.folder / f"{index}.safetensors", index, example)

    def _write(self, path: Path, index: int, example: TrainingExample) -> None:
        parts = {"teacher": example.teacher, "weight": example.weight, "start": example.start}
        try:
            save_file({name: part.contiguous() for name, part in parts.items() if part is not None}, path)
        except (OSError, SafetensorError):  # the disk filled up meanwhile: a cache is no reason to stop
            self.disk_left = 0
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            return
        self._files[index] = path
        self.disk_left -= example.nbytes
