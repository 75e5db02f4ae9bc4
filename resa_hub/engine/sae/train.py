"""Stage I: train a TopK SAE with SAELens' trainer on activations of plain transformers models."""

from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

import msgspec

from ...adapter.manifest import SaeStart
from ...config.recipe import SaeSettings
from ...core.progress import Progress
from ...data.snapshots import SaeFiles
from ..checkpoint import Checkpoint
from ..model.split import hook_path, prefix
from . import activations
from .activations import Sources
from .files import new
from .fit import fit
from .quality import quality
from .shards import Shards
from .start import begin
from .topk import SparseTopKTrainingSAE


class Trained(NamedTuple):
    sae: SparseTopKTrainingSAE
    quality: dict[str, float]
    tokens: int
    """Seen in training; none for mode pretrained."""
    start: SaeStart | None = None


Training = Generator[None, None, Trained]
"""A training that stops after each step; what it returns is the SAE."""


def train(*arguments: Any, **named: Any) -> Trained:
    """`training`, run to its end."""
    return finish(training(*arguments, **named))


def finish(one: Training) -> Trained:
    return in_step([one])[0]


def in_step(trainings: Sequence[Training], advance: Callable[[int], None] = lambda steps: None) -> list[Trained]:
    """Run several to their end, a step of each in turn; in their order."""
    done: dict[int, Trained] = {}
    while len(done) < len(trainings):
        for place, one in enumerate(trainings):
            if place in done:
                continue
            try:
                next(one)
                advance(1)
            except StopIteration as end:
                done[place] = end.value
    return [done[place] for place in range(len(trainings))]


def training(
    sources: Sources,
    held_out: Sources,
    settings: SaeSettings,
    hookpoint: str,
    start: SaeFiles | None,
    seed: int,
    progress: Progress,
    checkpoint: Checkpoint = Checkpoint(),
    shards: Shards | None = None,
    read: activations.Read | None = None,
) -> Training:
    """An SAE of the states at `hookpoint`, from scratch or continuing from `start`, whose latents and k then count.

    checkpoint: holds the state of a run that was killed. shards: activations on disk. Raises `RunFailed` on a loss that
    is not finite and `DoesNotFit` for a start that cannot be taken.
    """
    model = sources[0][0]
    width = prefix(model, sources[0][1][0].ids[:1].to(model.device), hookpoint).shape[-1]
    record, tokens = None, 0
    if start:
        sae, record = begin(start, width, hookpoint, held_out, progress)
        found = msgspec.structs.replace(settings, latents=sae.cfg.d_sae, k=sae.cfg.k)
        if found != settings:
            progress.say(
                f"  the SAE has {found.latents:,} latents, k = {found.k}: they count, not the recipe's "
                f"{settings.latents:,} and {settings.k}"
            )
        settings = found
    else:
        sae = new(width, settings, hookpoint, seed)
    sae.cfg.metadata.hf_hook_name = hook_path(model, hookpoint)
    if settings.mode != "pretrained":
        tokens = activations.count(sources, settings.skip_first)
        steps = settings.steps or max(1, int(tokens * settings.epochs) // settings.batch_tokens)
        yield from fit(
            sae,
            sources,
            settings,
            hookpoint,
            steps,
            fresh=start is None,
            seed=seed,
            progress=progress,
            checkpoint=checkpoint,
            shards=shards,
            read=read,
        )
    sae.requires_grad_(False)
    return Trained(sae, quality(sae, held_out, hookpoint, settings.skip_first, progress), tokens, record)
