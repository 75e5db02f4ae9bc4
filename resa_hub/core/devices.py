"""How many GPUs torch would use here, asked without loading torch where the answer is plain without it."""

import ctypes
import functools
from importlib.metadata import PackageNotFoundError, version

DRIVERS = ("libcuda.so.1", "nvcuda.dll")
"""NVIDIA's driver library, on Linux and Windows: torch finds no GPU of theirs without it."""


@functools.lru_cache
def gpu_count() -> int:
    """GPUs that torch sees in this process: `CUDA_VISIBLE_DEVICES` and containers are heeded, as torch does it."""
    if not _may_see_gpus():
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _may_see_gpus() -> bool:
    """False where torch is built for processors alone, or no driver can be loaded."""
    try:
        build = version("torch").partition("+")[2]
    except PackageNotFoundError:
        return False
    if build == "cpu":
        return False
    return build.startswith("rocm") or any(map(_can_be_loaded, DRIVERS))


def _can_be_loaded(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
