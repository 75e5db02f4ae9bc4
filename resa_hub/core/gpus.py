"""The GPUs that plans name, as data sheets and price lists say, and this machine, as measured."""

import functools
import os
import shutil
import subprocess
import time
from typing import NamedTuple

from .memory import free_memory


class Price(NamedTuple):
    usd: float
    """An hour."""
    source: str
    """Who says so, and when."""


class Gpu(NamedTuple):
    name: str
    memory: float
    """GB."""
    bandwidth: float
    """Of its memory, GB a second."""
    peak: float | None = None
    """Dense bf16 operations a second; None where no training is estimated on it."""
    price: Price | None = None


PAPER = Price(1.00, "arXiv 2506.09967, June 2025")
GPUS = (
    Gpu("T4", 16, 320),
    Gpu("L4", 24, 300),
    Gpu("RTX 4090", 24, 1008),
    Gpu("L40S", 48, 864, 362e12, PAPER),
    Gpu("RTX 6000 Ada", 48, 960, 364e12, PAPER),
    Gpu("A100 80GB", 80, 2039, 312e12, Price(0.86, "lowest listings, January 2026")),
    Gpu("H100 SXM", 80, 3350, 989e12, Price(2.95, "median of 37 providers, May 2026")),
)
"""Memory, bandwidth and peak of the makers' data sheets."""


CPU_UTILISATION = 0.4
"""Share of the measured product of matrices that models reach."""
WORDS = {
    "T4": "T4",
    "L4": "L4",
    "4090": "RTX 4090",
    "L40S": "L40S",
    "6000": "RTX 6000 Ada",
    "A100": "A100 80GB",
    "H100": "H100 SXM",
}
"""A word of the name that a driver gives -> the GPU of the table."""
PROGRAM_MEMORY = 550_000_000
"""Bytes that Python, torch and transformers take before a model is loaded (measured on Linux, x86-64)."""
MAIN_MEMORY = f"memory: on a CPU the program itself takes about {PROGRAM_MEMORY / 1e6:.0f} MB more"
SECONDS = 10.0
"""How long nvidia-smi may take."""


@functools.lru_cache
def gpu_here() -> tuple[str, Gpu | None] | None:
    """(its name, the row of the table) of the first NVIDIA GPU of this machine, as its driver tells it; None without
    one.
    """
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    name = said.strip().partition("\n")[0].strip()
    words = name.replace("-", " ").split()
    known = next((row for word, row in WORDS.items() if word in words), None)
    return (name, next((gpu for gpu in GPUS if gpu.name == known), None)) if name else None


def fits_main_memory(needed: int) -> bool:
    """Whether a run on the processor has so many bytes beside the program itself."""
    return needed + PROGRAM_MEMORY < free_memory()


@functools.lru_cache
def measured_speed(seconds: float = 0.4) -> float:
    """Operations a second of float32 products of matrices on all cores that this process may use, were they idle: by
    processor time, not by the clock.
    """
    import numpy

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    size, done, until = 512, 0, time.monotonic() + seconds
    left, right = numpy.ones((size, size), numpy.float32), numpy.ones((size, size), numpy.float32)
    _ = left @ right
    began = time.process_time()
    while time.monotonic() < until or not done:
        _ = left @ right
        done += 1
    return done * 2.0 * size**3 / max(time.process_time() - began, 1e-9) * cores
