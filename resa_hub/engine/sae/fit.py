"""The training loop of an SAE: SAELens' trainer on a stream of activations."""

import torch
from sae_lens import SAETrainer
from sae_lens.config import SAETrainerConfig

from ...errors import RunFailed
from ...progress import Progress
from ...recipe import SaeSettings
from . import activations
from .activations import Sources
from .topk import SparseTopKTrainingSAE

DEAD_AFTER_STEPS = 1_000


def fit(sae: SparseTopKTrainingSAE, sources: Sources, settings: SaeSettings, hookpoint: str, steps: int, *, fresh: bool, seed: int, progress: Progress) -> None:
    size, rate = settings.batch_tokens, settings.rate
    config = SAETrainerConfig(
        total_training_samples=steps * size, train_batch_size_samples=size, lr=rate, lr_end=rate / 10,
        lr_warm_up_steps=min(50, steps // 10), lr_decay_steps=steps // 3, adam_beta2=0.99, dead_feature_window=DEAD_AFTER_STEPS,
    )  # fmt: skip
    device = sources[0][0].device
    sae.to(device)
    with progress.stage("train SAE", steps * size, "tokens") as advance:
        batches = activations.stream(sources, hookpoint, size, seed)
        first = next(batches).to(device)
        if fresh:
            with torch.no_grad():
                sae.b_dec.copy_(first.mean(0))
        trainer = SAETrainer(config, sae, batches)
        batch = first
        for _ in range(steps):
            loss = trainer.step(batch).loss
            trainer.n_training_steps += 1
            with torch.no_grad():
                sae.W_dec.div_(sae.W_dec.norm(dim=-1, keepdim=True).clamp(min=1e-8))
            advance(size)
            batch = next(batches)
        if not torch.isfinite(loss):
            raise RunFailed("training the SAE ended in NaN", "lower it with --set sae.learning_rate=...")
