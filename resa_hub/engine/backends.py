"""How torch computes where it has a choice: set here alone, before the first model is loaded, and kept in manifests.

Products in float32 are products in float32 unless a person asks for TF32: effects, self-checks and SAEs are compared in
it. Sums of bf16 products are kept in float32, as processors do it.
"""

import os
from typing import Any

import torch

from ..core.errors import Usage

TF32 = "RESA_HUB_TF32"
"""1: products in float32 on NVIDIA GPUs since Ampere take TensorFloat-32, with 10 bits of mantissa for 23: several
times as fast.
"""


def configure() -> None:
    """Make torch compute as this module says; may be called again. Raises `Usage` for a word that is not 0 or 1."""
    word = os.environ.get(TF32, "0") or "0"
    if word not in ("0", "1"):
        raise Usage(f"{TF32} is {word!r}: it must be 0 or 1", f"unset {TF32}")
    torch.backends.cuda.matmul.allow_tf32 = word == "1"
    torch.backends.cudnn.allow_tf32 = word == "1"
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False


def settings() -> dict[str, Any]:
    """What is in force on the GPU, for the record; empty on a processor, where none of it is a choice."""
    if not torch.cuda.is_available():
        return {}
    return {
        "tf32": torch.backends.cuda.matmul.allow_tf32,
        "bf16_sums": "bfloat16" if _reduces() else "float32",
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cuda": torch.version.cuda or torch.version.hip,
        "compute_capability": ".".join(map(str, torch.cuda.get_device_capability())),
    }


def _reduces() -> bool:
    return bool(torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction)
