"""Control of every method: a random LoRA whose change of each module has the Frobenius norm of another adapter's, or a
given one. Nothing is trained.
"""

import re

from ...adapter.fit import read_lora
from ...core.errors import Usage
from ..model.lora import new_lora, norms, random_state, state_of
from ..model.split import decoder_layers
from ..model.tokens import bucketed, prompt
from .context import PROBES, ExtractionContext, MethodOutput

MODULE = re.compile(r"layers\.(\d+)\.(?:.+\.)?(\w+)$")


def run(session: ExtractionContext) -> MethodOutput:
    recipe, count = session.recipe, len(decoder_layers(session.target))
    layers, found, reference = None, {}, session.reference
    if recipe.norm is None:
        if reference is None:
            raise Usage(
                "nothing says how large the random adapter is",
                "--set norm_of=NAME@VERSION, a folder, or --set norm=0.5",
            )
        read = read_lora(reference)
        places = {match.groups() for module in read.modules if (match := MODULE.search(module))}
        other = {name for _, name in places} ^ set(recipe.lora.modules)
        if other:
            raise Usage(
                f"the adapter of reference and this recipe have other modules: {', '.join(sorted(other))}",
                f"--set lora.modules=[{', '.join(sorted({name for _, name in places}))}]",
            )
        numbers = sorted({int(number) for number, _ in places})
        layers = None if len(numbers) == count else numbers
        found = norms(reference, read.scaling)
    fresh = state_of(new_lora(session.student(), recipe.lora, layers, recipe.seed))
    scaling = recipe.lora.alpha / recipe.lora.rank
    wanted = {
        name: recipe.norm if recipe.norm is not None else found.get(name, 0.0) for name in fresh if ".lora_A." in name
    }
    state = random_state(fresh, {name: norm / scaling for name, norm in wanted.items()}, recipe.seed)
    probes = bucketed(
        [(prompt(session.tokenizer, session.template, question), 1) for question in session.questions[:PROBES]],
        1,
        recipe.seed,
    )
    return MethodOutput(
        state,
        layers,
        {},
        session.probe_texts(probes),
        0,
        {"norm": round(sum(norm**2 for norm in wanted.values()) ** 0.5, 6)},
    )
