"""Stage I: train a TopK SAE with SAELens' trainer on activations of plain transformers models."""

from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

import msgspec

from ...adapter.manifest import SaeInit
from ...config.recipe import SaeSettings
from ...core.progress import Progress
from ...data.snapshots import SaeFiles
from ..checkpoint import Checkpoint
from ..model.split import hook_path, run_to_layer
from . import activations
from .activations import Sources
from .files import new
from .fit import fit
from .quality import quality
from .shards import Shards
from .start import load_initial_sae
from .topk import SparseTopKTrainingSAE


class TrainedSae(NamedTuple):
    sae: SparseTopKTrainingSAE
    quality: dict[str, float]
    tokens: int
    """Seen in training; none for mode pretrained."""
    start: SaeInit | None = None


TrainingSteps = Generator[None, None, TrainedSae]
"""A training that stops after each step; what it returns is the SAE."""


def train_sae(*arguments: Any, **named: Any) -> TrainedSae:
    """`training`, run to its end."""
    return finish(sae_training_steps(*arguments, **named))


def finish(one: TrainingSteps) -> TrainedSae:
    return train_interleaved([one])[0]


def train_interleaved(
    trainings: Sequence[TrainingSteps], advance: Callable[[int], None] = lambda steps: None
) -> list[TrainedSae]:
    """Run several to their end, a step of each in turn; in their order."""
    done: dict[int, TrainedSae] = {}
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


def sae_training_steps(
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
) -> TrainingSteps:
    """An SAE of the states at `hookpoint`, from scratch or continuing from `start`, whose latents and k then count.

    checkpoint: holds the state of a run that was killed. shards: activations on disk. Raises `RunFailed` on a loss that
    is not finite and `DoesNotFit` for a start that cannot be taken.
    """
    model = sources[0][0]
    width = run_to_layer(model, sources[0][1][0].ids[:1].to(model.device), hookpoint).shape[-1]
    record, tokens = None, 0
    if start:
        sae, record = load_initial_sae(start, width, hookpoint, held_out, progress)
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
    return TrainedSae(sae, quality(sae, held_out, hookpoint, settings.skip_first, progress), tokens, record)
