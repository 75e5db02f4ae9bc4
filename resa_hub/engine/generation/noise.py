"""Common random numbers: one uniform per (seed, problem, sample, position), the same in every arm."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def uniforms(seed: int, keys: Sequence[tuple[str, int]], length: int) -> Float[Tensor, "rows length"]:
    """Row i depends on `seed` and `keys[i]` = (problem id, sample number) alone, not on its neighbours."""
    rows = np.empty((len(keys), length), dtype=np.float32)
    for row, (problem, sample) in zip(rows, keys, strict=True):
        digest = hashlib.sha256(f"{seed}\0{problem}\0{sample}".encode()).digest()
        np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little"))).random(
            dtype=np.float32, out=row
        )
    return torch.from_numpy(rows)
