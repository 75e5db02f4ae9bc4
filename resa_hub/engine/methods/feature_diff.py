"""Feature-difference distillation, our own method: the teacher is the target moved by the SAE features in which the
source differs most.

Teacher = target's suffix on h_target + Dec_k(f_source - f_target) at the hookpoint, restricted to k features; student =
target + LoRA. Two controls say whether WHICH features matters: `random-features` takes k active features from outside
the 2k strongest, `outside-features` the next k behind them with a patch that has, position by position, the norm of the
true one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel

from ..model.tokens import Batch
from ..sae.activations import Sources
from ..sae.train import TrainedSae
from .activation_patching import Patch, Patches, TeacherSetup, teacher
from .context import ExtractionContext, MethodOutput, held_out
from .distill import distill
from .sae_stage import finished_sae
from .screen import print_table, settle_and_measure
from .selection import FeaturePatch, Ranking, next_outside, random_outside, rank

Choose = Callable[[Ranking, int, int], Int[Tensor, " count"]]
"""(ranking, number of features, seed) -> latents."""


@dataclass
class HookpointFeatures:
    """What stage I finds at one hookpoint."""

    trained: TrainedSae
    ranking: Ranking
    choose: Choose
    equal_norm: bool
    """Make the patch of the chosen features as long as that of the strongest ones."""
    seed: int

    def chosen(self, count: int) -> Int[Tensor, " count"]:
        return self.choose(self.ranking, count, self.seed)

    def patch(self, count: int) -> Patch:
        patch = FeaturePatch(self.trained.sae, self.chosen(count))
        if not self.equal_norm:
            return patch
        return with_norm_of(FeaturePatch(self.trained.sae, self.ranking.order[:count]), patch)

    def findings(self, count: int) -> dict[str, Any]:
        chosen, share = self.chosen(count), self.ranking.share
        return {
            "features": chosen.tolist(),
            "share": [round(float(share[i]), 5) for i in chosen],
            "share_of_all": float(share[chosen].sum()),
        }


def with_norm_of(model: Patch, other: Patch) -> Patch:
    """`other`, made as long at each position as `model` is there."""

    def patch(source: Tensor, reference: Tensor) -> Tensor:
        added, norm = other(source, reference), model(source, reference).norm(dim=-1, keepdim=True)
        return added * norm / added.norm(dim=-1, keepdim=True).clamp(min=1e-12)

    return patch


def strongest(ranking: Ranking, count: int, seed: int) -> Int[Tensor, " count"]:
    return ranking.order[:count]


def prepare(context: ExtractionContext, choose: Choose = strongest, equal_norm: bool = False) -> TeacherSetup:
    """Stage I at every hookpoint, and the choices of the screen; `settle_and_measure` says in which order."""
    batches = context.texts.training_rollouts()

    @cache  # the source's rollouts are generated when the layer is known, and once for all hookpoints
    def texts() -> tuple[Sources, Sources]:
        return stage_one_texts(context, batches)

    def measure(hookpoint: str, before: Patches) -> HookpointFeatures:
        trained = finished_sae(context, *texts(), hookpoint)
        ranking = rank(context, trained.sae, batches, hookpoint, before)
        return HookpointFeatures(trained, ranking, choose, equal_norm, context.recipe.seed)

    settled = settle_and_measure(context, batches, "features", measure)
    count, features = context.recipe.features, settled.by_hookpoint
    saes = {hookpoint: found.trained for hookpoint, found in features.items()}
    findings = _findings(features, count)
    if settled.trials:
        findings["screen"] = settled.trials
    return TeacherSetup(settled.patches(count), batches, findings, saes)


def _findings(features: Mapping[str, HookpointFeatures], count: int) -> dict[str, Any]:
    """Those of the first hookpoint, and under `further` those of the others."""
    if len(features) == 1:
        return next(iter(features.values())).findings(count)
    first, *further = [found.findings(count) | {"hookpoint": hookpoint} for hookpoint, found in features.items()]
    return first | {"further": further}


def sae_texts(context: ExtractionContext) -> tuple[Sources, Sources]:
    """(training, held-out) texts of the SAE, whatever the hookpoint."""
    return stage_one_texts(context, context.texts.training_rollouts())


def stage_one_texts(context: ExtractionContext, batches: list[Batch]) -> tuple[Sources, Sources]:
    """(training, held-out) texts of the SAE, each with the model that reads it: rollouts of source and target."""
    sources, tests = (_by_reference_model(context, part) for part in held_out(batches))
    if context.rollout_settings.of_source:
        questions = context.texts.questions_by_writer.get("source")
        learn, judge = held_out(context.texts.rollouts("source", questions))
        sources, tests = [(context.source, learn), *sources], [(context.source, judge), *tests]
    return sources, tests


def _by_reference_model(context: ExtractionContext, batches: list[Batch]) -> list[tuple[PreTrainedModel, list[Batch]]]:
    """Batches grouped by the model that the source is compared with."""
    groups: dict[int, tuple[PreTrainedModel, list[Batch]]] = {}
    for batch in batches:
        model = context.reference_model(batch)
        groups.setdefault(id(model), (model, []))[1].append(batch)
    return list(groups.values())


def run(context: ExtractionContext) -> MethodOutput:
    return _distilled(context, prepare(context))


def run_random(context: ExtractionContext) -> MethodOutput:
    return _distilled(context, prepare(context, random_outside))


def run_outside(context: ExtractionContext) -> MethodOutput:
    return _distilled(context, prepare(context, next_outside, equal_norm=True))


def _distilled(context: ExtractionContext, setup: TeacherSetup) -> MethodOutput:
    print_table(context, setup.findings.get("screen", []))
    return distill(context, setup.batches, teacher(context, setup.patches), setup.findings, setup.saes)
