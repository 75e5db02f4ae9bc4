"""Feature-difference distillation, our own method: the teacher is the target moved by the SAE features in which the
source differs most.

Teacher = target's suffix on h_target + Dec_k(f_source - f_target) at the hookpoint, restricted to k features; student =
target + LoRA. Two controls say whether WHICH features matters: `random-features` takes k active features from outside
the 2k strongest, `outside-features` the next k behind them with a patch that has, position by position, the norm of the
true one.
"""

from collections.abc import Callable
from typing import Any

from jaxtyping import Int
from torch import Tensor

from ..model.tokens import Batch
from ..sae.activations import Sources
from ..sae.train import TrainedSae
from .activation_patching import Patch, Patches, TeacherSetup, check_patch, teacher
from .context import ExtractionContext, MethodOutput, held_out
from .distill import distill
from .pca_diff import directions
from .screen import Candidates, choose_layer, choose_numbers, tell
from .selection import FeaturePatch, Ranking, next_outside, random_outside, rank

Choose = Callable[[Ranking, int, int], Int[Tensor, " count"]]
"""(ranking, number of features, seed) -> latents."""


class HookpointFeatures:
    """What stage I finds at one hookpoint."""

    def __init__(self, trained: TrainedSae, ranking: Ranking, choose: Choose, equal_norm: bool, seed: int) -> None:
        self.trained, self.ranking, self.choose, self.equal_norm, self.seed = trained, ranking, choose, equal_norm, seed

    def chosen(self, count: int) -> Int[Tensor, " count"]:
        return self.choose(self.ranking, count, self.seed)

    def patch(self, count: int) -> Patch:
        made = FeaturePatch(self.trained.sae, self.chosen(count))
        return as_long_as(FeaturePatch(self.trained.sae, self.ranking.order[:count]), made) if self.equal_norm else made

    def findings(self, count: int) -> dict[str, Any]:
        chosen, share = self.chosen(count), self.ranking.share
        return {
            "features": chosen.tolist(),
            "share": [round(float(share[i]), 5) for i in chosen],
            "share_of_all": float(share[chosen].sum()),
        }


def as_long_as(true: Patch, other: Patch) -> Patch:
    """`other`, made as long at each position as `true` is there."""

    def patch(source: Tensor, own: Tensor) -> Tensor:
        made, norm = other(source, own), true(source, own).norm(dim=-1, keepdim=True)
        return made * norm / made.norm(dim=-1, keepdim=True).clamp(min=1e-12)

    return patch


def prepare(
    session: ExtractionContext,
    choose: Choose = lambda ranking, count, seed: ranking.order[:count],
    equal_norm: bool = False,
) -> TeacherSetup:
    own = session.training_rollouts()
    rows = choose_layer(session, own, lambda at: directions(session, own, at).patch)
    check_patch(session)
    found: dict[str, HookpointFeatures] = {}

    def patches(count: int) -> Patches:
        return {at: one.patch(count) for at, one in found.items()}

    sources, tests = states_for(session, own)
    for at in session.recipe.all_hookpoints:
        trained = session.sae(sources, tests, at)
        ranking = rank(session, trained.sae, own, at, patches(session.recipe.features))
        found[at] = HookpointFeatures(trained, ranking, choose, equal_norm, session.recipe.seed)
    rows += choose_numbers(session, Candidates("features", patches))
    count = session.recipe.features
    first, *further = [one.findings(count) | ({"hookpoint": at} if len(found) > 1 else {}) for at, one in found.items()]
    findings = first | ({"further": further} if further else {}) | ({"screen": rows} if rows else {})
    return TeacherSetup(patches(count), own, findings, {at: one.trained for at, one in found.items()})


def sae_texts(session: ExtractionContext) -> tuple[Sources, Sources]:
    return states_for(session, session.training_rollouts())


def states_for(session: ExtractionContext, own: list[Batch]) -> tuple[Sources, Sources]:
    """(training, held-out) texts of the SAE, each with the model that reads it: rollouts of source and target."""
    learn, judge = held_out(own)
    sources, tests = [_read(session, part) for part in (learn, judge)]
    if session.recipe.rollouts is None or session.recipe.rollouts.of_source:
        learn, judge = held_out(session.rollouts("source", session.rollout_texts.get("source")))
        sources, tests = [(session.source, learn), *sources], [(session.source, judge), *tests]
    return sources, tests


def _read(session: ExtractionContext, batches: list[Batch]) -> list[tuple[Any, list[Batch]]]:
    """Batches grouped by the model that the source is compared with."""
    groups: dict[int, tuple[Any, list[Batch]]] = {}
    for batch in batches:
        reader = session.reference_model(batch)
        groups.setdefault(id(reader), (reader, []))[1].append(batch)
    return list(groups.values())


def run(session: ExtractionContext) -> MethodOutput:
    return _distilled(session, prepare(session))


def run_random(session: ExtractionContext) -> MethodOutput:
    return _distilled(session, prepare(session, random_outside))


def run_outside(session: ExtractionContext) -> MethodOutput:
    return _distilled(session, prepare(session, next_outside, equal_norm=True))


def _distilled(session: ExtractionContext, made: TeacherSetup) -> MethodOutput:
    tell(session, made.findings.get("screen", []))
    return distill(session, made.batches, teacher(session, made.patches), made.findings, made.saes)
