"""Stage I of a sweep: the SAEs of many layers trained from one pass of the model, each the SAE that its own extraction
would train.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ...config.recipe import SaeSettings
from ...core.progress import Progress
from ..ledger import TOTAL, CostTracker
from ..model.split import check_layer
from ..sae.activations import BUFFER_BYTES, OnePass, count
from ..sae.train import sae_training_steps, train_interleaved
from . import sae_texts
from .context import ExtractionContext


def train_layers(session: ExtractionContext, places: Mapping[str, CostTracker], starts: Mapping[str, Any]) -> None:
    """Train an SAE at each hookpoint of `places` and keep it where the extraction of that hookpoint looks for it.

    session: of any of them; they differ in the hookpoint alone. starts: the SAE that each begins with, None for a new
    one. A run that was killed goes on from the states of each. Memory bounds how many go through one pass.
    """
    recipe = session.recipe
    for at in places:
        check_layer(session.target, at)
    with session.ledger.stage(TOTAL):
        sources, held_out = sae_texts(recipe.method)(session)
    width = session.source.config.get_text_config().hidden_size
    each = training_bytes(recipe.sae, count(sources, recipe.sae.skip_first), width)
    for group in groups(list(places), each, session.memory):
        began, read = time.monotonic(), OnePass(group)
        session.progress.say(
            f"  one pass of the model for the SAEs of {group[0]}{f' .. {group[-1]}' if len(group) > 1 else ''}"
        )
        trainings = [
            sae_training_steps(
                sources, held_out, recipe.sae, at, starts[at], recipe.seed, Progress(quiet=True), places[at], read=read
            )
            for at in group
        ]
        steps = recipe.sae.steps or max(
            1, int(count(sources, recipe.sae.skip_first) * recipe.sae.epochs) // recipe.sae.batch_tokens
        )
        with session.progress.stage("train SAEs", steps * len(group), "steps") as advance:
            found = train_interleaved(trainings, advance)
        for at, trained in zip(group, found, strict=True):
            places[at].share("sae", (time.monotonic() - began) / len(group))
            session.keep(trained, at, places[at])


def training_bytes(settings: SaeSettings, tokens: int, width: int) -> int:
    """Memory of one SAE in training: its buffer of states, its weights with gradient and two moments, its
    pre-activations.
    """
    return (
        min(BUFFER_BYTES, 4 * tokens * width)
        + 4 * 4 * 2 * width * settings.latents
        + 4 * settings.batch_tokens * settings.latents
    )


def groups(hookpoints: Sequence[str], each: int, memory: int) -> list[Sequence[str]]:
    """As few groups, of about equal size, as fit into `memory` bytes."""
    most = max(1, memory // max(1, each))
    number = -(-len(hookpoints) // most)
    size = -(-len(hookpoints) // number)
    return [hookpoints[start : start + size] for start in range(0, len(hookpoints), size)]
