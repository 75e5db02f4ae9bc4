"""SAEs in sparsify's format (EleutherAI), read and written: cfg.json and sae.safetensors {encoder.weight, encoder.bias,
W_dec, b_dec}.

Sparsify encodes relu(W (x - b_dec) + b): SAELens says so with `apply_b_dec_to_input`. SAELens' own loader for this
format transposes W_dec and leaves b_dec out, hence this one.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ...config.recipe import SaeSettings
from ...core.errors import DoesNotFit, HubError
from ...core.files import read_json
from .files import new
from .topk import SparseTopKTrainingSAE, has_unit_decoder

CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"
OTHER_KINDS = {
    "transcode": "a transcoder",
    "skip_connection": "an SAE with a skip connection",
    "signed": "an SAE with signed latents",
}
AGAIN = "fetch it again, or name another SAE"


def load(folder: Path, width: int, hookpoint: str) -> SparseTopKTrainingSAE:
    """The SAE of a folder, old layout (`expansion_factor`, no `activation`) or current one, as a training SAE in
    float32.

    Raises `DoesNotFit` for another width, for what is no plain TopK SAE, and for damaged files.
    """
    config, tensors = _read(folder)
    what = next((text for key, text in OTHER_KINDS.items() if config.get(key)), None)
    if config.get("activation", "topk") != "topk":
        what = f"an SAE with activation {config['activation']}"
    if what:
        raise DoesNotFit(f"{folder} holds {what}; a plain TopK SAE is needed", "name another SAE")
    d_in, k = (_whole(config, key, folder) for key in ("d_in", "k"))
    if d_in != width:
        raise DoesNotFit(
            f"{folder} holds an SAE of width {d_in}; {hookpoint} needs one of width {width}", "name another SAE"
        )
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    latents = _whole(config, "num_latents", folder) or width * _whole(config, "expansion_factor", folder)
    expected = {
        "encoder.weight": (latents, width),
        "encoder.bias": (latents,),
        "W_dec": (latents, width),
        "b_dec": (width,),
    }
    if shapes != expected:
        odd = next(name for name in [*expected, *shapes] if shapes.get(name) != expected.get(name))
        raise DoesNotFit(
            f"{folder}: the shape of {odd} is {shapes.get(odd)} where {CONFIG} says {expected.get(odd)}", AGAIN
        )
    if not 0 < k <= latents:
        raise DoesNotFit(f"{folder} says k = {k} of {latents} latents", AGAIN)
    sae = new(width, SaeSettings(latents=latents, k=k), hookpoint, seed=0)
    weights = {
        "W_enc": tensors["encoder.weight"].T,
        "b_enc": tensors["encoder.bias"],
        "W_dec": tensors["W_dec"],
        "b_dec": tensors["b_dec"],
    }
    sae.load_state_dict({name: tensor.float().contiguous() for name, tensor in weights.items()})
    sae.cfg.apply_b_dec_to_input = True
    return sae


def save(sae: SparseTopKTrainingSAE, folder: Path) -> None:
    """The current layout, as eai-sparsify 1.3 reads it, in float32."""
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
    save_file({name: tensor.float().contiguous().cpu() for name, tensor in tensors.items()}, folder / WEIGHTS)
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
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _whole(config: dict[str, Any], key: str, folder: Path) -> int:
    value = config.get(key, 0)
    if not isinstance(value, int) or isinstance(value, bool):
        raise DoesNotFit(f"{folder / CONFIG} says {key} = {value!r}, which is no whole number", AGAIN)
    return value


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        config, tensors = read_json((folder / CONFIG).resolve()), load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError, HubError) as error:
        raise DoesNotFit(
            f"{folder} holds no SAE in sparsify's format: {error}", f"it needs {CONFIG} and {WEIGHTS}"
        ) from None
    if not isinstance(config, dict):
        raise DoesNotFit(f"{folder / CONFIG} is not a mapping", AGAIN)
    if not all(tensor.is_floating_point() and bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise DoesNotFit(f"{folder} holds weights that are not finite numbers", AGAIN)
    return config, tensors
