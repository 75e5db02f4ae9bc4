"""SAEs read and written in SAELens' and in sparsify's (EleutherAI) format, and converted from one to the other by way
of the training SAE that both are read into.

SAELens: cfg.json and sae_weights.safetensors. sparsify: cfg.json and sae.safetensors {encoder.weight, encoder.bias,
W_dec, b_dec}. Sparsify encodes relu(W (x - b_dec) + b): SAELens says so with `apply_b_dec_to_input`. SAELens' own
loader for sparsify's format transposes W_dec and leaves b_dec out, hence the one here.
"""

import json
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ...config.recipe import SaeSettings
from ...core.errors import DoesNotFit, HubError
from ...core.files import read_json
from ...data.snapshots import SAE_CONFIG, SaeFiles
from .topk import SparseTopKTrainingSAE, has_unit_decoder, new_sae

SAELENS_WEIGHTS, SPARSIFY_WEIGHTS = "sae_weights.safetensors", "sae.safetensors"
SPARSIFY_OTHER_KINDS = {
    "transcode": "a transcoder",
    "skip_connection": "an SAE with a skip connection",
    "signed": "an SAE with signed latents",
}
"""A key of sparsify's config, and what it stands for where it is true."""
FETCH_AGAIN, NAME_ANOTHER = "fetch it again, or name another SAE", "name another SAE"


def load_sae(files: SaeFiles, width: int | None, hookpoint: str) -> SparseTopKTrainingSAE:
    """The SAE of these files as a training SAE for `hookpoint`. width: that of the base; None takes the config's.

    Raises `DoesNotFit` for another width, for what is no plain TopK SAE, and for damaged files.
    """
    load = {"saelens": load_saelens, "sparsify": load_sparsify}[files.format]
    return load(files.folder, width or _configured_width(files), hookpoint)


def to_saelens(files: SaeFiles, width: int | None, hookpoint: str, folder: Path, base: str) -> tuple[int, int]:
    """Write the SAE to `folder` in SAELens format, nothing of the origin's config but sizes and k; returns (latents,
    k). Raises as `load_sae`.
    """
    sae = load_sae(files, width, hookpoint)
    save_saelens(sae, folder, base)
    return sae.cfg.d_sae, sae.cfg.k


def to_sparsify(folder: Path, hookpoint: str) -> None:
    """Rewrite a folder in SAELens format in sparsify's; raises as `load_sae`."""
    sae = load_sae(SaeFiles(str(folder), folder, "saelens", hookpoint), None, hookpoint)
    save_sparsify(sae, folder)
    (folder / SAELENS_WEIGHTS).unlink()


def _configured_width(files: SaeFiles) -> int:
    width = files.config.get("d_in") if isinstance(files.config, dict) else None
    if not isinstance(width, int) or isinstance(width, bool) or width <= 0:
        raise DoesNotFit(f"{files.folder / SAE_CONFIG} says d_in = {width!r}, which is no width", FETCH_AGAIN)
    return width


def load_saelens(folder: Path, width: int, hookpoint: str) -> SparseTopKTrainingSAE:
    """An SAE in SAELens format; raises `DoesNotFit` for another width or architecture, for scaled inputs and for
    damaged files.
    """
    try:
        plain = SAE.load_from_disk(folder, dtype="float32")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        hint = f"it needs {SAE_CONFIG} and {SAELENS_WEIGHTS}"
        raise DoesNotFit(f"{folder} holds no SAE in SAELens format: {error}", hint) from None
    config: Any = plain.cfg
    if config.architecture() != "topk" or config.d_in != width:
        raise DoesNotFit(
            f"{folder} holds a {config.architecture()} SAE of width {config.d_in}; {hookpoint} needs a topk "
            f"SAE of width {width}",
            NAME_ANOTHER,
        )
    scalings = [(key, getattr(config, key)) for key in ("normalize_activations", "reshape_activations")]
    used = ", ".join(f"{key} {value}" for key, value in scalings if value != "none")
    if used:
        raise DoesNotFit(f"{folder} holds an SAE with {used}", "fold it into the weights first")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in plain.state_dict().values()):
        raise DoesNotFit(f"{folder} holds weights that are not finite numbers", FETCH_AGAIN)
    if config.rescale_acts_by_decoder_norm:
        plain.fold_W_dec_norm()
    sae = new_sae(width, SaeSettings(latents=config.d_sae, k=config.k, mode="finetuned"), hookpoint, seed=0)
    sae.cfg.apply_b_dec_to_input = config.apply_b_dec_to_input
    sae.load_state_dict(plain.state_dict())
    return sae


def save_saelens(sae: SparseTopKTrainingSAE, folder: Path, base: str) -> None:
    """Write SAELens format, the same bytes every time. base: the model's id, for the metadata."""
    sae.cfg.metadata.model_name = base
    folder.mkdir(parents=True, exist_ok=True)
    _, config = sae.save_inference_model(str(folder))
    # SAELens orders the keys by hash seed.
    config.write_text(json.dumps(json.loads(config.read_text()), indent=2, sort_keys=True) + "\n")


def check_readable(folder: Path) -> None:
    """Raise `DoesNotFit` unless SAELens loads the SAE of this folder."""
    try:
        SAE.load_from_disk(folder)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise DoesNotFit(f"{folder} holds no SAE in SAELens format: {error}", "pull the adapter again") from None


def load_sparsify(folder: Path, width: int, hookpoint: str) -> SparseTopKTrainingSAE:
    """An SAE in sparsify's format, old layout (`expansion_factor`, no `activation`) or current one, in float32.

    Raises `DoesNotFit` for another width, for what is no plain TopK SAE, and for damaged files.
    """
    config, tensors = _read_sparsify(folder)
    kind = next((text for key, text in SPARSIFY_OTHER_KINDS.items() if config.get(key)), None)
    if config.get("activation", "topk") != "topk":
        kind = f"an SAE with activation {config['activation']}"
    if kind:
        raise DoesNotFit(f"{folder} holds {kind}; a plain TopK SAE is needed", NAME_ANOTHER)
    d_in, k = (_whole_number(config, key, folder) for key in ("d_in", "k"))
    if d_in != width:
        raise DoesNotFit(f"{folder} holds an SAE of width {d_in}; {hookpoint} needs one of width {width}", NAME_ANOTHER)
    latents = _whole_number(config, "num_latents", folder)
    latents = latents or width * _whole_number(config, "expansion_factor", folder)
    _check_shapes(tensors, latents, width, folder)
    if not 0 < k <= latents:
        raise DoesNotFit(f"{folder} says k = {k} of {latents} latents", FETCH_AGAIN)
    sae = new_sae(width, SaeSettings(latents=latents, k=k), hookpoint, seed=0)
    weights = {
        "W_enc": tensors["encoder.weight"].T,
        "b_enc": tensors["encoder.bias"],
        "W_dec": tensors["W_dec"],
        "b_dec": tensors["b_dec"],
    }
    sae.load_state_dict({name: tensor.float().contiguous() for name, tensor in weights.items()})
    sae.cfg.apply_b_dec_to_input = True
    return sae


def save_sparsify(sae: SparseTopKTrainingSAE, folder: Path) -> None:
    """Write sparsify's current layout, as eai-sparsify 1.3 reads it, in float32."""
    bias = sae.b_enc.detach()
    if not sae.cfg.apply_b_dec_to_input:
        bias = bias + sae.b_dec.detach() @ sae.W_enc.detach()  # W x + b = W (x - b_dec) + (b + W b_dec)
    tensors = {
        "encoder.weight": sae.W_enc.detach().T,
        "encoder.bias": bias,
        "W_dec": sae.W_dec.detach(),
        "b_dec": sae.b_dec.detach(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.float().contiguous().cpu() for name, tensor in tensors.items()}, folder / SPARSIFY_WEIGHTS)
    config = {
        "activation": "topk",
        "d_in": sae.cfg.d_in,
        "expansion_factor": max(1, sae.cfg.d_sae // sae.cfg.d_in),
        "k": sae.cfg.k,
        "multi_topk": False,
        "normalize_decoder": has_unit_decoder(sae),
        "num_latents": sae.cfg.d_sae,
        "skip_connection": False,
        "transcode": False,
    }
    (folder / SAE_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _read_sparsify(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(config, tensors) of a folder, all finite floating point numbers."""
    try:
        config, tensors = read_json((folder / SAE_CONFIG).resolve()), load_file(folder / SPARSIFY_WEIGHTS)
    except (OSError, ValueError, SafetensorError, HubError) as error:
        hint = f"it needs {SAE_CONFIG} and {SPARSIFY_WEIGHTS}"
        raise DoesNotFit(f"{folder} holds no SAE in sparsify's format: {error}", hint) from None
    if not isinstance(config, dict):
        raise DoesNotFit(f"{folder / SAE_CONFIG} is not a mapping", FETCH_AGAIN)
    if not all(tensor.is_floating_point() and bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise DoesNotFit(f"{folder} holds weights that are not finite numbers", FETCH_AGAIN)
    return config, tensors


def _whole_number(config: dict[str, Any], key: str, folder: Path) -> int:
    """The number under `key`, 0 where there is none."""
    value = config.get(key, 0)
    if not isinstance(value, int) or isinstance(value, bool):
        raise DoesNotFit(f"{folder / SAE_CONFIG} says {key} = {value!r}, which is no whole number", FETCH_AGAIN)
    return value


def _check_shapes(tensors: dict[str, Tensor], latents: int, width: int, folder: Path) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    expected = {
        "encoder.weight": (latents, width),
        "encoder.bias": (latents,),
        "W_dec": (latents, width),
        "b_dec": (width,),
    }
    for name in [*expected, *shapes]:
        if shapes.get(name) != expected.get(name):
            raise DoesNotFit(
                f"{folder}: the shape of {name} is {shapes.get(name)} where {SAE_CONFIG} says {expected.get(name)}",
                FETCH_AGAIN,
            )
