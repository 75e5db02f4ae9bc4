"""What a run costs, stage by stage: seconds, tokens, estimated operations, peak memory, energy where the machine tells;
formulas: `operations`.
"""

import contextlib
import re
import resource
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn
from transformers import PreTrainedModel

from ..adapter.manifest import Cost
from ..core.flops import Sizes
from .checkpoint import Checkpoint
from .distributed import SINGLE_PROCESS, ProcessGroup
from .model.split import decoder_layers

STATE = "cost"
RAPL = Path("/sys/class/powercap")
TOTAL = "total"


def sizes(model: PreTrainedModel) -> Sizes:
    return Sizes(tuple(_count(layer) for layer in decoder_layers(model)), _count(model.get_output_embeddings()))


def _count(module: nn.Module | None) -> int:
    return sum(p.numel() for p in module.parameters()) if module else 0


class CostTracker(Checkpoint):
    """A checkpoint that writes, beside each state, what the stages took so far: a resumed run goes on counting."""

    def __init__(
        self, folder: Path | None = None, every: float = 30.0, processes: ProcessGroup = SINGLE_PROCESS
    ) -> None:
        super().__init__(folder, every, processes)
        self.costs: dict[str, Cost] = msgspec.convert(self._read(STATE) or {}, dict[str, Cost])
        self._open: dict[str, tuple[float, float | None]] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time, memory and energy inside count for `name`; stages may lie inside each other."""
        self._settle()
        _reset_peaks()
        self._open[name] = (time.monotonic(), joules())
        try:
            yield
        finally:
            self._settle()
            del self._open[name]

    def add(self, name: str, tokens: int = 0, operations: float = 0.0) -> None:
        """Count tokens and operations for a stage."""
        for each in (name, TOTAL):
            cost = self._cost(each)
            self.costs[each] = msgspec.structs.replace(
                cost, tokens=cost.tokens + tokens, operations=cost.operations + operations
            )

    def share(self, name: str, seconds: float) -> None:
        """Count a part of the time of work that was done for several runs at once."""
        for each in (name, TOTAL):
            cost = self._cost(each)
            self.costs[each] = msgspec.structs.replace(
                cost, seconds=cost.seconds + seconds, memory=max(cost.memory, peak_memory())
            )

    def save(self, name: str, state: dict[str, Any]) -> None:
        super().save(name, state)
        self.flush()

    def flush(self) -> None:
        """Write the costs alone."""
        self._settle()
        super().save(STATE, msgspec.to_builtins(self.costs))

    def _cost(self, name: str) -> Cost:
        return self.costs.get(name, Cost())

    def _settle(self) -> None:
        now, energy, memory, gpu = time.monotonic(), joules(), peak_memory(), peak_gpu_memory()
        for name, (began, before) in self._open.items():
            cost = self._cost(name)
            used = None if energy is None or before is None else (cost.joules or 0.0) + max(0.0, energy - before)
            self.costs[name] = msgspec.structs.replace(
                cost,
                seconds=cost.seconds + now - began,
                memory=max(cost.memory, memory),
                gpu_memory=gpu if cost.gpu_memory is None else max(cost.gpu_memory, gpu or 0),
                joules=used,
            )
            self._open[name] = (now, energy)


def peak_memory() -> int:
    """Bytes of main memory at most since `_reset_peaks`; where the system cannot reset, since the process began."""
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0])
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def peak_gpu_memory() -> int | None:
    return (
        max(torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count()))
        if torch.cuda.is_available()
        else None
    )


def _reset_peaks() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(index)


def joules() -> float | None:
    """The energy counter of this machine's processors (Linux RAPL) and NVIDIA GPUs, other processes included; None
    where it has none that may be read.
    """
    found = [value for value in (_processors(), _gpus()) if value is not None]
    return sum(found) if found else None


def _processors() -> float | None:
    try:
        # intel-rapl:N is a package; intel-rapl:N:M are its parts.
        values = [
            int((zone / "energy_uj").read_text()) for zone in RAPL.glob("intel-rapl:*") if zone.name.count(":") == 1
        ]
    except (OSError, ValueError):
        return None  # newer kernels show it to root alone
    return sum(values) / 1e6 if values else None


@cache
def _nvml() -> Any:
    if not torch.cuda.is_available():
        return None
    try:
        import pynvml  # pyright: ignore[reportMissingImports]

        pynvml.nvmlInit()
        return pynvml
    except Exception:  # no library, or no driver that it knows
        return None


def _gpus() -> float | None:
    nvml = _nvml()
    if nvml is None:
        return None
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        return sum(nvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in handles) / 1e3
    except Exception:  # older cards have no counter
        return None
