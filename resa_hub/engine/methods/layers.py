"""Stage I of a sweep: the SAEs of many layers trained from one pass of the model, each the SAE that its own extraction
would train.
"""

import time
from collections.abc import Mapping, Sequence

from ...config.recipe import SaeSettings
from ...core.progress import Progress
from ...data.snapshots import SaeFiles
from ..cost_tracker import TOTAL, CostTracker
from ..model.partial_forward import check_layer
from ..sae.activations import BUFFER_BYTES, OnePass, Sources, count_states
from ..sae.train import count_steps, sae_training_steps, train_interleaved
from . import sae_texts
from .context import ExtractionContext
from .sae_stage import STAGE, save_finished


def train_layers(
    context: ExtractionContext, ledgers: Mapping[str, CostTracker], starts: Mapping[str, SaeFiles | None]
) -> None:
    """Train an SAE at each hookpoint of `ledgers` and keep it where the extraction of that hookpoint looks for it.

    context: of any of them; they differ in the hookpoint alone. starts: the SAE that each begins with, None for a new
    one. A run that was killed goes on from the states of each. Memory bounds how many go through one pass.
    """
    recipe = context.recipe
    for hookpoint in ledgers:
        check_layer(context.target, hookpoint)
    with context.ledger.stage(TOTAL):
        sources, held_out = sae_texts(recipe.method)(context)
    tokens = count_states(sources, recipe.sae.skip_first)
    width = context.source.config.get_text_config().hidden_size
    for group in groups(list(ledgers), training_bytes(recipe.sae, tokens, width), context.memory):
        _train_group(context, group, sources, held_out, tokens, ledgers, starts)


def _train_group(
    context: ExtractionContext,
    group: Sequence[str],
    sources: Sources,
    held_out: Sources,
    tokens: int,
    ledgers: Mapping[str, CostTracker],
    starts: Mapping[str, SaeFiles | None],
) -> None:
    began, recipe = time.monotonic(), context.recipe
    read, quiet = OnePass(group), Progress(quiet=True)
    hookpoints = group[0] if len(group) == 1 else f"{group[0]} .. {group[-1]}"
    context.progress.say(f"  one pass of the model for the SAEs of {hookpoints}")
    trainings = [
        sae_training_steps(sources, held_out, recipe.sae, at, starts[at], recipe.seed, quiet, ledgers[at], read=read)
        for at in group
    ]
    steps = count_steps(recipe.sae, tokens) * len(group)
    with context.progress.stage("train SAEs", steps, "steps") as advance:
        finished = train_interleaved(trainings, advance)
    for hookpoint, trained in zip(group, finished, strict=True):
        ledgers[hookpoint].share(STAGE, (time.monotonic() - began) / len(group))
        save_finished(context, trained, hookpoint, ledgers[hookpoint])


def training_bytes(settings: SaeSettings, tokens: int, width: int) -> int:
    """Memory of one SAE in training: its buffer of states, its weights with gradient and two moments, its
    pre-activations.
    """
    buffer = min(BUFFER_BYTES, 4 * tokens * width)
    weights = 4 * 4 * 2 * width * settings.latents
    return buffer + weights + 4 * settings.batch_tokens * settings.latents


def groups(hookpoints: Sequence[str], each: int, memory: int) -> list[Sequence[str]]:
    """As few groups, of about equal size, as fit into `memory` bytes. each: bytes of one SAE in training."""
    most = max(1, memory // max(1, each))
    number = -(-len(hookpoints) // most)
    size = -(-len(hookpoints) // number)
    return [hookpoints[start : start + size] for start in range(0, len(hookpoints), size)]
