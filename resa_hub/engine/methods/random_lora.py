"""Control of every method: a random LoRA whose change of each module has the Frobenius norm of another adapter's, or a
given one. Nothing is trained.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ...adapter.fit import read_lora
from ...config.recipe import Recipe
from ...core.errors import Usage
from ..model.lora import new_lora, norms, random_state, state_of
from ..model.partial_forward import decoder_layers
from ..model.tokens import bucketed
from .context import ExtractionContext, MethodOutput
from .texts import PROBES

MODULE = re.compile(r"layers\.(\d+)\.(?:.+\.)?(\w+)$")


class ReferenceNorms(NamedTuple):
    layers: list[int] | None
    """Layers that carry the LoRA; None for all."""
    norms: Mapping[str, float]
    """Frobenius norm of the change of every module, by the name of its A."""


def run(context: ExtractionContext) -> MethodOutput:
    recipe, texts = context.recipe, context.texts
    reference = ReferenceNorms(None, {})
    if recipe.norm is None:
        reference = _reference_norms(recipe, context.inputs.reference, len(decoder_layers(context.target)))
    fresh = state_of(new_lora(context.models.new_twin(), recipe.lora, reference.layers, recipe.seed))
    # A module that the reference does not change is left unchanged here, too.
    wanted = {
        name: reference.norms.get(name, 0.0) if recipe.norm is None else recipe.norm
        for name in fresh
        if ".lora_A." in name
    }
    scaling = recipe.lora.alpha / recipe.lora.rank
    state = random_state(fresh, {name: norm / scaling for name, norm in wanted.items()}, recipe.seed)
    probes = bucketed([(ids, 1) for ids in texts.prompts(texts.questions[:PROBES])], 1, recipe.seed)
    total = sum(norm**2 for norm in wanted.values()) ** 0.5
    findings = {"norm": round(total, 6)}
    return MethodOutput(state, reference.layers, {}, texts.probe_texts(probes), 0, findings)


def _reference_norms(recipe: Recipe, folder: Path | None, layer_count: int) -> ReferenceNorms:
    """Of the adapter in `folder`; raises `Usage` where there is none, or one of other modules than the recipe's."""
    if folder is None:
        raise Usage(
            "nothing says how large the random adapter is",
            "--set norm_of=NAME@VERSION, a folder, or --set norm=0.5",
        )
    lora = read_lora(folder)
    matches = [match for module in lora.modules if (match := MODULE.search(module))]
    modules = {match[2] for match in matches}
    differing = modules ^ set(recipe.lora.modules)
    if differing:
        raise Usage(
            f"the adapter of reference and this recipe have other modules: {', '.join(sorted(differing))}",
            f"--set lora.modules=[{', '.join(sorted(modules))}]",
        )
    layers = sorted({int(match[1]) for match in matches})
    return ReferenceNorms(None if len(layers) == layer_count else layers, norms(folder, lora.scaling))
