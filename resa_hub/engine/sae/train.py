"""Stage I: train a TopK SAE with SAELens' trainer on activations of plain transformers models."""

import json
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from sae_lens import SAE, SAETrainer, TopKTrainingSAEConfig
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.sae import SAEMetadata
from safetensors import SafetensorError
from torch import Tensor

from ...errors import DoesNotFit, RunFailed, Usage
from ...progress import Progress
from ...recipe import SaeSettings
from ...refs import layer_of
from ..split import prefix
from . import activations
from .activations import Sources
from .topk import SparseTopKTrainingSAE

DEAD_AFTER_STEPS = 1_000


class Trained(NamedTuple):
    sae: SparseTopKTrainingSAE
    quality: dict[str, float]
    tokens: int


def train(sources: Sources, held_out: Sources, settings: SaeSettings, hookpoint: str, start: Path | None, seed: int, progress: Progress) -> Trained:
    """An SAE of the states at `hookpoint`, from scratch or continuing from the SAELens folder `start`.

    Raises `RunFailed` on NaN and `DoesNotFit` for a start of another width.
    """
    model = sources[0][0]
    width = prefix(model, sources[0][1][0].ids[:1].to(model.device), hookpoint).shape[-1]
    sae = load(start, width, hookpoint) if start else new(width, settings, hookpoint, seed)
    if settings.mode != "pretrained":
        steps = settings.steps or max(1, int(activations.count(sources) * settings.epochs) // settings.batch_tokens)
        _fit(sae, sources, settings, hookpoint, steps, fresh=start is None, seed=seed, progress=progress)
    sae.requires_grad_(False)
    return Trained(sae, quality(sae, held_out, hookpoint), activations.count(sources))


def new(width: int, settings: SaeSettings, hookpoint: str, seed: int) -> SparseTopKTrainingSAE:
    if not 0 < settings.k <= settings.latents:
        raise Usage(f"k = {settings.k} active latents of {settings.latents} cannot be", "set sae.k between 1 and sae.latents")
    layer = layer_of(hookpoint)
    mlp = hookpoint.endswith(".mlp")
    metadata = SAEMetadata(hook_name=f"blocks.{layer}.hook_{'mlp_out' if mlp else 'resid_post'}", hf_hook_name=f"model.layers.{layer}{'.mlp' if mlp else ''}")
    config = TopKTrainingSAEConfig(
        d_in=width, d_sae=settings.latents, k=settings.k, rescale_acts_by_decoder_norm=False, decoder_init_norm=1.0, metadata=metadata
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SparseTopKTrainingSAE(config)


def _fit(
    sae: SparseTopKTrainingSAE, sources: Sources, settings: SaeSettings, hookpoint: str, steps: int, *, fresh: bool, seed: int, progress: Progress
) -> None:
    size = settings.batch_tokens
    config = SAETrainerConfig(
        total_training_samples=steps * size, train_batch_size_samples=size, lr=settings.learning_rate, lr_end=settings.learning_rate / 10,
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


def load(folder: Path, width: int, hookpoint: str) -> SparseTopKTrainingSAE:
    """An SAE in SAELens format as a training SAE; raises `DoesNotFit` for another width or architecture."""
    try:
        plain = SAE.load_from_disk(folder)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise DoesNotFit(f"{folder} holds no SAE in SAELens format: {error}", "it needs cfg.json and sae_weights.safetensors") from None
    config = plain.cfg
    if config.architecture() != "topk" or config.d_in != width:
        raise DoesNotFit(
            f"{folder} holds a {config.architecture()} SAE of width {config.d_in}; {hookpoint} needs a topk SAE of width {width}", "name another SAE"
        )
    settings = SaeSettings(latents=config.d_sae, k=config.k, mode="finetuned")  # pyright: ignore[reportAttributeAccessIssue]
    sae = new(width, settings, hookpoint, seed=0)
    sae.cfg.apply_b_dec_to_input = config.apply_b_dec_to_input
    sae.load_state_dict(plain.state_dict())
    return sae


def save(sae: SparseTopKTrainingSAE, folder: Path, base: str) -> None:
    """SAELens format: cfg.json and sae_weights.safetensors, the same bytes every time: SAELens orders the config's keys by hash seed."""
    sae.cfg.metadata.model_name = base
    folder.mkdir(parents=True, exist_ok=True)
    _, config = sae.save_inference_model(str(folder))
    config.write_text(json.dumps(json.loads(config.read_text()), indent=2, sort_keys=True) + "\n")


@torch.no_grad()
def encode(sae: SparseTopKTrainingSAE, state: Float[Tensor, "*n d_in"]) -> tuple[Float[Tensor, "*n k"], Int[Tensor, "*n k"]]:
    """The k active latents of each state: (values >= 0, indices)."""
    flat = state.reshape(-1, state.shape[-1]).float()
    pre = torch.addmm(sae.b_enc, sae.process_sae_in(flat), sae.W_enc)
    values, indices = pre.topk(sae.cfg.k, dim=-1, sorted=False)
    return values.relu().view(*state.shape[:-1], -1), indices.view(*state.shape[:-1], -1)


@torch.no_grad()
def reconstruct(sae: SparseTopKTrainingSAE, state: Float[Tensor, "*n d_in"]) -> Float[Tensor, "*n d_in"]:
    values, indices = encode(sae, state.reshape(-1, state.shape[-1]))
    out = torch.nn.functional.embedding_bag(indices, sae.W_dec, mode="sum", per_sample_weights=values) + sae.b_dec
    return out.view(state.shape).to(state.dtype)


@torch.no_grad()
def quality(sae: SparseTopKTrainingSAE, held_out: Sources, hookpoint: str) -> dict[str, float]:
    """On held-out tokens: fvu over all positions and without the first, l0 (mean active latents), share of latents that never fire."""
    fired = torch.zeros(sae.cfg.d_sae, dtype=torch.bool, device=sae.W_dec.device)
    states, errors, firsts, active = [], [], [], []
    for model, batches in held_out:
        for batch in batches:
            state = prefix(model, batch.ids.to(model.device), hookpoint).float()
            values, indices = encode(sae, state)
            fired[indices[values > 0]] = True
            states.append(state.flatten(0, 1))
            errors.append((state - reconstruct(sae, state)).flatten(0, 1).pow(2).sum(-1))
            firsts.append((torch.arange(state.shape[1]) == 0).repeat(state.shape[0]))
            active.append((values > 0).sum(-1).flatten())
    x, error, later = torch.cat(states), torch.cat(errors), ~torch.cat(firsts)

    def fvu(mask: Tensor) -> float:
        centred = x[mask] - x[mask].mean(0)
        return float(error[mask].sum() / centred.pow(2).sum().clamp(min=1e-12))

    return {
        "fvu": fvu(torch.ones_like(later)),
        "fvu_without_first": fvu(later),
        "l0": float(torch.cat(active).float().mean()),
        "dead": 1 - float(fired.float().mean()),
    }
