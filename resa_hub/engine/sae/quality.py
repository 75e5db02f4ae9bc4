"""How well an SAE describes held-out states."""

import torch
from torch import Tensor

from ..split import prefix
from .activations import Sources
from .codes import encode, reconstruct
from .topk import SparseTopKTrainingSAE


@torch.no_grad()
def quality(sae: SparseTopKTrainingSAE, held_out: Sources, hookpoint: str) -> dict[str, float]:
    """On held-out tokens: fvu over all positions and without the first, l0 (mean active latents), share of latents that never fire."""
    fired = torch.zeros(sae.cfg.d_sae, dtype=torch.bool, device=sae.W_dec.device)
    states, errors, firsts, active = [], [], [], []
    for model, batches in held_out:
        for batch in batches:
            state = prefix(model, batch.ids.to(model.device), hookpoint).float()
            values, indices = encode(sae, state)
            fired[indices[values > 0]] = True
            states.append(state.flatten(0, 1))
            errors.append((state - reconstruct(sae, state)).flatten(0, 1).pow(2).sum(-1))
            firsts.append((torch.arange(state.shape[1]) == 0).repeat(state.shape[0]))
            active.append((values > 0).sum(-1).flatten())
    x, error, later = torch.cat(states), torch.cat(errors), ~torch.cat(firsts)

    def fvu(mask: Tensor) -> float:
        centred = x[mask] - x[mask].mean(0)
        return float(error[mask].sum() / centred.pow(2).sum().clamp(min=1e-12))

    return {
        "fvu": fvu(torch.ones_like(later)),
        "fvu_without_first": fvu(later),
        "l0": float(torch.cat(active).float().mean()),
        "dead": 1 - float(fired.float().mean()),
    }
