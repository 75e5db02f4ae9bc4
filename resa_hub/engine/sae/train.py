"""Stage I: train a TopK SAE with SAELens' trainer on activations of plain transformers models."""

import functools
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple, ParamSpec

import msgspec

from ...adapter.manifest import SaeInit
from ...config.recipe import SaeSettings
from ...config.refs import HOOKPOINT
from ...core.errors import DoesNotFit, Usage
from ...core.progress import Progress
from ...data.snapshots import SaeFiles
from ..checkpoint import Checkpoint
from ..model.partial_forward import check_layer, hook_path, run_to_layer
from . import activations
from .activations import ActivationCache, Sources
from .formats import load_sae
from .quality import fvu, quality
from .topk import SparseTopKTrainingSAE, has_unit_decoder, new_sae
from .training_loop import fit


class TrainedSae(NamedTuple):
    sae: SparseTopKTrainingSAE
    quality: dict[str, float]
    tokens: int
    """Seen in training; none for mode pretrained."""
    start: SaeInit | None = None


Arguments = ParamSpec("Arguments")
TrainingSteps = Generator[None, None, TrainedSae]
"""A training that pauses after each step; its return value is the SAE."""


def train_interleaved(
    trainings: Sequence[TrainingSteps], advance: Callable[[int], None] = lambda steps: None
) -> list[TrainedSae]:
    """Run several trainings to their end, a step of each in turn; the SAEs in the order of the trainings.

    advance: called with 1 after each step.
    """
    finished: dict[int, TrainedSae] = {}
    while len(finished) < len(trainings):
        for number, training in enumerate(trainings):
            if number in finished:
                continue
            try:
                next(training)
                advance(1)
            except StopIteration as end:
                finished[number] = end.value
    return [finished[number] for number in range(len(trainings))]


def sae_training_steps(
    sources: Sources,
    held_out: Sources,
    settings: SaeSettings,
    hookpoint: str,
    start: SaeFiles | None,
    seed: int,
    progress: Progress,
    checkpoint: Checkpoint = Checkpoint(),
    cache: ActivationCache | None = None,
    read: activations.ReadStates | None = None,
) -> TrainingSteps:
    """Train an SAE of the states at `hookpoint`, from scratch or continuing from `start`, whose latents and k then
    count; pauses after each step.

    checkpoint: holds the state of a run that was killed. cache: activations on disk. read: how the states of a buffer
    are computed. Raises `RunFailed` on a loss that is not finite and `DoesNotFit` for a start that cannot be taken.
    """
    model = sources[0][0]
    width = run_to_layer(model, sources[0][1][0].ids[:1].to(model.device), hookpoint).shape[-1]
    if start:
        sae, record = load_initial_sae(start, width, hookpoint, held_out, progress)
        settings = _settings_of_start(sae, settings, progress)
    else:
        sae, record = new_sae(width, settings, hookpoint, seed), None
    sae.cfg.metadata.hf_hook_name = hook_path(model, hookpoint)
    tokens = 0
    if settings.mode != "pretrained":
        sae.to(model.device)
        tokens = activations.count_states(sources, settings.skip_first)
        stream = functools.partial(activations.stream, sources, hookpoint, width, seed=seed, cache=cache, read=read)
        steps = count_steps(settings, tokens)
        reset_bias = start is None or settings.reset_bias
        yield from fit(sae, stream, settings, steps, reset_bias=reset_bias, progress=progress, checkpoint=checkpoint)
    sae.requires_grad_(False)
    return TrainedSae(sae, quality(sae, held_out, hookpoint, settings.skip_first, progress), tokens, record)


def _run_to_end(steps: Callable[Arguments, TrainingSteps]) -> Callable[Arguments, TrainedSae]:
    def train(*arguments: Arguments.args, **named: Arguments.kwargs) -> TrainedSae:
        return train_interleaved([steps(*arguments, **named)])[0]

    return train


train_sae = _run_to_end(sae_training_steps)
"""One SAE, trained to its end; arguments and errors are those of `sae_training_steps`."""


def count_steps(settings: SaeSettings, tokens: int) -> int:
    """Steps of a training on data of so many tokens."""
    return settings.steps or max(1, int(tokens * settings.epochs) // settings.batch_tokens)


def load_initial_sae(
    start: SaeFiles, width: int, hookpoint: str, held_out: Sources, progress: Progress
) -> tuple[SparseTopKTrainingSAE, SaeInit]:
    """The SAE that training starts from and its record, with its FVU at `hookpoint` and, where that is another one, at
    the hookpoint it was made for. Both are taken on held-out tokens without the first position.

    Raises `DoesNotFit` for another width, no plain TopK SAE, damaged files, and for a layer that the model does not
    have.
    """
    sae = load_sae(start, width, hookpoint).to(held_out[0][0].device)
    sae.unit_decoder = has_unit_decoder(sae)
    here, there = fvu(sae, held_out, hookpoint), None
    if start.hookpoint and start.hookpoint != hookpoint:
        there = _fvu_at_origin(sae, start, held_out)
        measured = "cannot be measured" if there is None else f"is {there:.3g}"
        progress.say(
            f"  the SAE was made for {start.hookpoint}: at its own hookpoint its FVU {measured}, at {hookpoint} it is "
            f"{here:.3g}"
        )
    if here >= 1:
        progress.say(f"  the SAE describes the states at {hookpoint} no better than their mean does (FVU {here:.3g})")
    record = SaeInit(
        digest=start.digest, format=start.format, hookpoint=start.hookpoint, fvu_here=here, fvu_there=there
    )
    return sae, record


def _fvu_at_origin(sae: SparseTopKTrainingSAE, start: SaeFiles, held_out: Sources) -> float | None:
    """FVU at the hookpoint the SAE was made for; None for a hook that is none of ours."""
    origin = start.hookpoint
    if not origin or not HOOKPOINT.fullmatch(origin):
        return None
    try:
        check_layer(held_out[0][0], origin)
    except Usage:
        raise DoesNotFit(
            f"the SAE {start.origin} was made for {origin}, a layer that the model does not have", "name another SAE"
        ) from None
    return fvu(sae, held_out, origin)


def _settings_of_start(sae: SparseTopKTrainingSAE, settings: SaeSettings, progress: Progress) -> SaeSettings:
    """The settings with latents and k of the SAE that training starts from; says so where they differ."""
    actual = msgspec.structs.replace(settings, latents=sae.cfg.d_sae, k=sae.cfg.k)
    if actual != settings:
        progress.say(
            f"  the SAE has {actual.latents:,} latents, k = {actual.k}: they count, not the recipe's "
            f"{settings.latents:,} and {settings.k}"
        )
    return actual
