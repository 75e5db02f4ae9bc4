"""What a TopK SAE does with a state: its active latents, and the state made again from them."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .topk import SparseTopKTrainingSAE, encode_topk


@torch.no_grad()
def encode(
    sae: SparseTopKTrainingSAE, state: Float[Tensor, "*n d_in"]
) -> tuple[Float[Tensor, "*n k"], Int[Tensor, "*n k"]]:
    """The k active latents of each state: (values >= 0, indices)."""
    flat = state.reshape(-1, state.shape[-1]).float()
    values, indices = encode_topk(sae.process_sae_in(flat), sae.W_enc, sae.b_enc, sae.cfg.k)
    return values.relu().view(*state.shape[:-1], -1), indices.view(*state.shape[:-1], -1)


@torch.no_grad()
def reconstruct(sae: SparseTopKTrainingSAE, state: Float[Tensor, "*n d_in"]) -> Float[Tensor, "*n d_in"]:
    values, indices = encode(sae, state.reshape(-1, state.shape[-1]))
    out = torch.nn.functional.embedding_bag(indices, sae.W_dec, mode="sum", per_sample_weights=values) + sae.b_dec
    return out.view(state.shape).to(state.dtype)
