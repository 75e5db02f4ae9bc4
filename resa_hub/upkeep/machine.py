"""This machine: system, processor, GPU, free memory and disk."""

import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from ..core.quantities import count
from .check import OK, WARNING, Check

LOW_MEMORY, LOW_DISK = 4e9, 5e9
"""Bytes; a model of 1.5 billion parameters takes 3 GB in bf16."""
BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""Of /proc/cpuinfo, on x86 and on ARM."""
FIRST_BF16_GPU = 8.0
"""Compute capability of NVIDIA's Ampere."""
SECONDS = 10.0
"""How long nvidia-smi may take."""


def check_machine(workspace: Path, cache: Path) -> list[Check]:
    """cache: where models are kept."""
    system = Check("system", f"{platform.platform(terse=True)}, {platform.machine()}")
    places = {"workspace": workspace, "models": cache, "temporary files": Path(tempfile.gettempdir())}
    disks = [_disk(name, folder) for name, folder in places.items()]
    return [system, _processor(), *_gpus(), _memory(), *disks]


def _processor() -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    info = _cpu_info()
    has_bf16 = bool(BF16_FLAGS & set((info.get("flags") or info.get("Features", "")).split()))
    precision = f", {'bf16 in hardware' if has_bf16 else 'no bf16 in hardware'}" if info else ""
    name = info.get("model name") or platform.processor() or platform.machine()
    return Check("processor", f"{name}, {count(cores, 'core')}{precision}")


def _cpu_info() -> dict[str, str]:
    """The first entry of /proc/cpuinfo; empty on other systems."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _gpus() -> list[Check]:
    """NVIDIA's, as nvidia-smi tells them: torch would take seconds to say it."""
    if shutil.which("nvidia-smi") is None:
        return [Check("GPU", "none: models run on the processor")]
    query = ["nvidia-smi", "--query-gpu=name,memory.free,memory.total,compute_cap", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return [Check("GPU", "nvidia-smi does not answer", WARNING, "check the driver: nvidia-smi")]
    return [_gpu(line.split(", ")) for line in done.stdout.splitlines() if line.strip()]


def _gpu(fields: Sequence[str]) -> Check:
    name, *rest = fields
    try:
        free, total, capability = (float(field) for field in rest)
    except ValueError:  # "[N/A]", as of a GPU that is part of another
        return Check("GPU", name)
    precision = "bf16" if capability >= FIRST_BF16_GPU else "no bf16"
    value = f"{name}, {free / 1024:.1f} of {total / 1024:.1f} GiB free, {precision}"
    if "+cpu" in version("torch"):
        return Check("GPU", value, WARNING, "torch is a build for processors: install one for CUDA to use the GPU")
    return Check("GPU", value, bytes=int(free * 2**20))


def _memory() -> Check:
    import psutil

    memory = psutil.virtual_memory()
    state, step = OK, ""
    if memory.available < LOW_MEMORY:
        state, step = WARNING, "close other programs, or take smaller models: a larger one may end the run"
    value = f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free"
    return Check("memory", value, state, step, bytes=memory.available)


def _disk(name: str, folder: Path) -> Check:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    usage = shutil.disk_usage(there)
    state, step = OK, ""
    if usage.free < LOW_DISK:
        state, step = WARNING, "free some space: `resa-hub cache` shows what resa-hub keeps"
    value = f"{usage.free / 1e9:.1f} of {usage.total / 1e9:.1f} GB free in {folder}"
    return Check(f"disk, {name}", value, state, step, bytes=usage.free)
