"""Principal directions of the difference between source and reference model at one hookpoint.

They need no SAE: the patch of `pca-diff`, and what stands for the features where the screen tries layers.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..model.tokens import Batch
from .activation_patching import Patch, Patches, states
from .context import ExtractionContext


class Directions(NamedTuple):
    """Eigenvalues and eigenvectors (columns) of the differences' second moment, the strongest last."""

    values: Float[Tensor, " width"]
    vectors: Float[Tensor, "width width"]

    def energy(self, count: int) -> float:
        """Share of the squared norm of all differences that lies in the strongest `count` directions."""
        return float(self.values[-count:].sum() / self.values.sum())

    def patch(self, count: int) -> Patch:
        """The difference projected on the strongest `count` directions."""
        directions = self.vectors[:, -count:].float()
        return lambda source, reference: (source - reference).float() @ directions @ directions.T


def principal_directions(
    context: ExtractionContext, batches: list[Batch], hookpoint: str, before: Patches | None = None
) -> Directions:
    """Of the differences at all positions but the first, with the patches `before` in place; in float64."""
    second_moment = 0.0
    for batch in batches:
        pair = states(context, batch, hookpoint, before)
        difference = (pair.source - pair.reference)[:, 1:].flatten(0, 1).double()
        second_moment = second_moment + difference.T @ difference
    assert isinstance(second_moment, Tensor)
    return Directions(*torch.linalg.eigh(second_moment))
