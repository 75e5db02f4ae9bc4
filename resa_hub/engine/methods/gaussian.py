"""Control of SAE-Tuning: Gaussian noise, as long at each position as the error of the SAE there, stands in its place.

What SAE-Tuning does and this does not is due to the SAE; what both do is due to any disturbance of that size.
"""

import hashlib

import torch
from torch import Tensor

from ..model.tokens import Batch
from ..sae.topk import SparseTopKTrainingSAE, reconstruct
from .context import ExtractionContext, MethodOutput
from .sae_tuning import tune


def run(context: ExtractionContext) -> MethodOutput:
    return tune(context, lambda sae, state, batch: noisy(sae, state, batch, context.recipe.seed))


@torch.no_grad()
def noisy(sae: SparseTopKTrainingSAE, state: Tensor, batch: Batch, seed: int) -> Tensor:
    """The state [rows, positions, width] plus noise of the norm of the SAE's error; the first position is kept as it
    is. The noise follows from the seed and the batch's tokens.
    """
    digest = hashlib.sha256(f"{seed}\0{batch.ids.tolist()}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)  # a seed has 63 bits
    noise = torch.randn(state.shape, generator=generator).to(state.device)
    length = (reconstruct(sae, state) - state).float().norm(dim=-1, keepdim=True)
    noise *= length / noise.norm(dim=-1, keepdim=True)
    noise[:, 0] = 0
    return state + noise.to(state.dtype)
