"""Control without an SAE: the patch is the difference of states in its first principal directions."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..model.tokens import Batch
from .activation_patching import Patch, Patches, TeacherSetup, check_patch, states, teacher
from .context import ExtractionContext, MethodOutput
from .distill import distill
from .screen import Candidates, choose_layer, choose_numbers, tell


class Directions(NamedTuple):
    """Of the differences at one hookpoint, the strongest last."""

    values: Float[Tensor, " width"]
    vectors: Float[Tensor, "width width"]

    def energy(self, count: int) -> float:
        return float(self.values[-count:].sum() / self.values.sum())

    def patch(self, count: int) -> Patch:
        directions = self.vectors[:, -count:].float()
        return lambda other, own: (other - own).float() @ directions @ directions.T


def directions(
    session: ExtractionContext, batches: list[Batch], hookpoint: str, before: Patches | None = None
) -> Directions:
    """Eigenvectors of the differences' second moment, the first position left out."""
    second = 0.0
    for batch in batches:
        other, own = states(session, batch, hookpoint, before)
        difference = (other - own)[:, 1:].flatten(0, 1).double()
        second = second + difference.T @ difference
    assert isinstance(second, Tensor)
    return Directions(*torch.linalg.eigh(second))


def prepare(session: ExtractionContext) -> TeacherSetup:
    own = session.training_rollouts()
    rows = choose_layer(session, own, lambda at: directions(session, own, at).patch)
    check_patch(session)
    made: dict[str, Directions] = {}

    def patches(count: int) -> Patches:
        return {at: found.patch(count) for at, found in made.items()}

    for at in session.recipe.all_hookpoints:
        made[at] = directions(session, own, at, patches(session.recipe.features))
    rows += choose_numbers(session, Candidates("directions", patches))
    count = session.recipe.features
    energies = {at: found.energy(count) for at, found in made.items()}
    findings = {"directions": count, "energy": energies[session.recipe.hookpoint]}
    findings |= ({"energies": energies} if len(energies) > 1 else {}) | ({"screen": rows} if rows else {})
    return TeacherSetup(patches(count), own, findings, {})


def run(session: ExtractionContext) -> MethodOutput:
    patches, own, findings, _ = prepare(session)
    tell(session, findings.get("screen", []))
    return distill(session, own, teacher(session, patches), findings)
