"""Stage I: train a TopK SAE with SAELens' trainer on activations of plain transformers models."""

from pathlib import Path
from typing import NamedTuple

from ...progress import Progress
from ...recipe import SaeSettings
from ..checkpoint import Checkpoint
from ..split import hook_path, prefix
from . import activations
from .activations import Sources
from .files import load, new
from .fit import fit
from .quality import quality
from .topk import SparseTopKTrainingSAE


class Trained(NamedTuple):
    sae: SparseTopKTrainingSAE
    quality: dict[str, float]
    tokens: int


def train(
    sources: Sources,
    held_out: Sources,
    settings: SaeSettings,
    hookpoint: str,
    start: Path | None,
    seed: int,
    progress: Progress,
    checkpoint: Checkpoint = Checkpoint(),
) -> Trained:
    """An SAE of the states at `hookpoint`, from scratch or continuing from the SAELens folder `start`.

    checkpoint: holds the state of a run that was killed. Raises `RunFailed` on a loss that is not finite and `DoesNotFit` for a start of another width.
    """
    model = sources[0][0]
    width = prefix(model, sources[0][1][0].ids[:1].to(model.device), hookpoint).shape[-1]
    sae = load(start, width, hookpoint) if start else new(width, settings, hookpoint, seed)
    sae.cfg.metadata.hf_hook_name = hook_path(model, hookpoint)
    if settings.mode != "pretrained":
        steps = settings.steps or max(1, int(activations.count(sources, settings.skip_first) * settings.epochs) // settings.batch_tokens)
        fit(sae, sources, settings, hookpoint, steps, fresh=start is None, seed=seed, progress=progress, checkpoint=checkpoint)
    sae.requires_grad_(False)
    return Trained(sae, quality(sae, held_out, hookpoint), activations.count(sources, settings.skip_first))
