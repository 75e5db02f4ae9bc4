"""SAEs made, read and written in SAELens format."""

import json
from pathlib import Path

import torch
from sae_lens import SAE, TopKTrainingSAEConfig
from sae_lens.saes.sae import SAEMetadata
from safetensors import SafetensorError

from ...config.recipe import SaeSettings
from ...config.refs import layer_of
from ...core.errors import DoesNotFit, Usage
from .topk import SparseTopKTrainingSAE


def new(width: int, settings: SaeSettings, hookpoint: str, seed: int) -> SparseTopKTrainingSAE:
    if not 0 < settings.k <= settings.latents:
        raise Usage(
            f"k = {settings.k} active latents of {settings.latents} cannot be", "set sae.k between 1 and sae.latents"
        )
    layer = layer_of(hookpoint)
    mlp = hookpoint.endswith(".mlp")
    metadata = SAEMetadata(
        hook_name=f"blocks.{layer}.hook_{'mlp_out' if mlp else 'resid_post'}",
        hf_hook_name=f"model.layers.{layer}{'.mlp' if mlp else ''}",
    )
    config = TopKTrainingSAEConfig(
        d_in=width,
        d_sae=settings.latents,
        k=settings.k,
        rescale_acts_by_decoder_norm=False,
        decoder_init_norm=1.0,
        metadata=metadata,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SparseTopKTrainingSAE(config)


def load(folder: Path, width: int, hookpoint: str) -> SparseTopKTrainingSAE:
    """An SAE in SAELens format as a training SAE; raises `DoesNotFit` for another width or architecture, for scaled
    inputs and for damaged files.
    """
    try:
        plain = SAE.load_from_disk(folder, dtype="float32")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise DoesNotFit(
            f"{folder} holds no SAE in SAELens format: {error}", "it needs cfg.json and sae_weights.safetensors"
        ) from None
    config = plain.cfg
    if config.architecture() != "topk" or config.d_in != width:
        raise DoesNotFit(
            f"{folder} holds a {config.architecture()} SAE of width {config.d_in}; {hookpoint} needs a topk "
            f"SAE of width {width}",
            "name another SAE",
        )
    changes = {
        key: value
        for key in ("normalize_activations", "reshape_activations")
        if (value := getattr(config, key)) != "none"
    }
    if changes:
        raise DoesNotFit(
            f"{folder} holds an SAE with {', '.join(f'{key} {value}' for key, value in changes.items())}",
            "fold it into the weights first",
        )
    if not all(bool(torch.isfinite(tensor).all()) for tensor in plain.state_dict().values()):
        raise DoesNotFit(f"{folder} holds weights that are not finite numbers", "fetch it again, or name another SAE")
    if config.rescale_acts_by_decoder_norm:  # pyright: ignore[reportAttributeAccessIssue]
        plain.fold_W_dec_norm()
    settings = SaeSettings(latents=config.d_sae, k=config.k, mode="finetuned")  # pyright: ignore[reportAttributeAccessIssue]
    sae = new(width, settings, hookpoint, seed=0)
    sae.cfg.apply_b_dec_to_input = config.apply_b_dec_to_input
    sae.load_state_dict(plain.state_dict())
    return sae


def save(sae: SparseTopKTrainingSAE, folder: Path, base: str) -> None:
    """SAELens format: cfg.json and sae_weights.safetensors, the same bytes every time: SAELens orders the config's keys
    by hash seed.
    """
    sae.cfg.metadata.model_name = base
    folder.mkdir(parents=True, exist_ok=True)
    _, config = sae.save_inference_model(str(folder))
    config.write_text(json.dumps(json.loads(config.read_text()), indent=2, sort_keys=True) + "\n")


def check_readable(folder: Path) -> None:
    """Raise `DoesNotFit` unless SAELens loads what lies in the folder."""
    try:
        SAE.load_from_disk(folder)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise DoesNotFit(f"{folder} holds no SAE in SAELens format: {error}", "pull the adapter again") from None
