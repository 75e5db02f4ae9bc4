"""What a run costs, stage by stage: seconds, tokens, estimated operations, peak memory in bytes, and energy in joules
where the machine measures it. The formulas of the operations are in `core.flops`.
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
from .model.partial_forward import decoder_layers

STATE = "cost"
RAPL = Path("/sys/class/powercap")
"""Where Linux shows the energy counters of the processors."""
TOTAL = "total"


def sizes(model: PreTrainedModel) -> Sizes:
    """Parameters of each decoder layer and of the head."""
    layers = tuple(_parameters(layer) for layer in decoder_layers(model))
    return Sizes(layers, _parameters(model.get_output_embeddings()))


def _parameters(module: nn.Module | None) -> int:
    return sum(parameter.numel() for parameter in module.parameters()) if module else 0


class CostTracker(Checkpoint):
    """A checkpoint that writes, beside each state, what the stages have cost so far: a resumed run goes on counting."""

    def __init__(
        self, folder: Path | None = None, every: float = 30.0, processes: ProcessGroup = SINGLE_PROCESS
    ) -> None:
        super().__init__(folder, every, processes)
        self.costs: dict[str, Cost] = msgspec.convert(self._read(STATE) or {}, dict[str, Cost])
        self._open: dict[str, tuple[float, float | None]] = {}
        """Stages that run now: clock and energy counter when they were last added to their cost."""

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time, memory and energy of the block for `name`; stages may be nested."""
        self._add_elapsed()
        _reset_peaks()
        self._open[name] = (time.monotonic(), joules())
        try:
            yield
        finally:
            self._add_elapsed()
            del self._open[name]

    def add(self, name: str, tokens: int = 0, operations: float = 0.0) -> None:
        """Count tokens and operations for a stage and in total."""
        for stage in (name, TOTAL):
            cost = self._cost(stage)
            self.costs[stage] = msgspec.structs.replace(
                cost, tokens=cost.tokens + tokens, operations=cost.operations + operations
            )

    def share(self, name: str, seconds: float) -> None:
        """Count this run's part of the time of work that was done for several runs at once."""
        for stage in (name, TOTAL):
            cost = self._cost(stage)
            self.costs[stage] = msgspec.structs.replace(
                cost, seconds=cost.seconds + seconds, memory=max(cost.memory, peak_memory())
            )

    def save(self, name: str, state: dict[str, Any]) -> None:
        super().save(name, state)
        self.flush()

    def flush(self) -> None:
        """Write the costs alone."""
        self._add_elapsed()
        super().save(STATE, msgspec.to_builtins(self.costs))

    def _cost(self, name: str) -> Cost:
        return self.costs.get(name, Cost())

    def _add_elapsed(self) -> None:
        """Add what was used since the last call to every open stage."""
        now, energy, memory, gpu = time.monotonic(), joules(), peak_memory(), peak_gpu_memory()
        for name, (since, energy_before) in self._open.items():
            cost = self._cost(name)
            used = None
            if energy is not None and energy_before is not None:
                used = (cost.joules or 0.0) + max(0.0, energy - energy_before)
            self.costs[name] = msgspec.structs.replace(
                cost,
                seconds=cost.seconds + now - since,
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
    """Bytes of the fullest GPU at most since `_reset_peaks`; None without a GPU."""
    if not torch.cuda.is_available():
        return None
    return max(torch.cuda.max_memory_allocated(index) for index in range(torch.cuda.device_count()))


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
    counters = [value for value in (_cpu_joules(), _gpu_joules()) if value is not None]
    return sum(counters) if counters else None


def _cpu_joules() -> float | None:
    try:
        # intel-rapl:N is a package; intel-rapl:N:M are its parts.
        packages = [zone for zone in RAPL.glob("intel-rapl:*") if zone.name.count(":") == 1]
        values = [int((package / "energy_uj").read_text()) for package in packages]
    except (OSError, ValueError):
        return None  # newer kernels show it to root alone
    return sum(values) / 1e6 if values else None


@cache
def _nvml() -> Any:
    """NVIDIA's management library, initialised; None without it or without a GPU."""
    if not torch.cuda.is_available():
        return None
    try:
        import pynvml  # pyright: ignore[reportMissingImports]

        pynvml.nvmlInit()
        return pynvml
    except Exception:  # no library, or no driver that it knows
        return None


def _gpu_joules() -> float | None:
    nvml = _nvml()
    if nvml is None:
        return None
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        return sum(nvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in handles) / 1e3
    except Exception:  # older cards have no counter
        return None
