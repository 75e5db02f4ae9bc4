"""Control without an SAE: the patch is the difference of states in its first principal directions."""

import torch
from torch import Tensor

from ..split import prefix
from .distill import check_patch, distill, patched_teacher
from .session import Extracted, Session


def run(session: Session) -> Extracted:
    hookpoint = session.recipe.hookpoint
    check_patch(session)
    own = session.rollouts(session.target, "target")
    second = 0.0
    for batch in own:
        ids = batch.ids.to(session.target.device)
        difference = (prefix(session.source, ids, hookpoint) - prefix(session.target, ids, hookpoint))[:, 1:].flatten(0, 1).double()
        second = second + difference.T @ difference
    assert isinstance(second, Tensor)
    values, vectors = torch.linalg.eigh(second)
    directions = vectors[:, -session.recipe.features :].float()
    energy = float(values[-session.recipe.features :].sum() / values.sum())

    def patch(other: Tensor, own_state: Tensor) -> Tensor:
        return (other - own_state).float() @ directions @ directions.T

    return distill(session, own, patched_teacher(session, patch), {"directions": session.recipe.features, "energy": energy})
