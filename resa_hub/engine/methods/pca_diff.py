"""Control without an SAE: the patch is the difference of states in its first principal directions."""

from typing import Any

from .activation_patching import Patches, TeacherSetup, teacher
from .context import ExtractionContext, MethodOutput
from .directions import Directions, principal_directions
from .distill import distill
from .screen import print_table, settle_and_measure


def prepare(context: ExtractionContext) -> TeacherSetup:
    batches = context.texts.training_rollouts()

    def measure(hookpoint: str, before: Patches) -> Directions:
        return principal_directions(context, batches, hookpoint, before)

    settled = settle_and_measure(context, batches, "directions", measure)
    count = context.recipe.features
    energies = {hookpoint: directions.energy(count) for hookpoint, directions in settled.by_hookpoint.items()}
    findings: dict[str, Any] = {"directions": count, "energy": energies[context.recipe.hookpoint]}
    if len(energies) > 1:
        findings["energies"] = energies
    if settled.trials:
        findings["screen"] = settled.trials
    return TeacherSetup(settled.patches(count), batches, findings, saes={})


def run(context: ExtractionContext) -> MethodOutput:
    setup = prepare(context)
    print_table(context, setup.findings.get("screen", []))
    return distill(context, setup.batches, teacher(context, setup.patches), setup.findings)
