"""Small SAEs of one size, in sparsify's format and in ours, and whether two are the same."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from sparsify import SparseCoder, SparseCoderConfig
from torch import Tensor

from resa_hub.config.recipe import SaeSettings
from resa_hub.engine.sae.topk import SparseTopKTrainingSAE, encode, new_sae, reconstruct
from tests.helpers.hub_server.server import HubServer

WIDTH, LATENTS, K = 64, 96, 6
"""WIDTH is that of the embedded models."""
X = torch.randn(200, WIDTH, generator=torch.Generator().manual_seed(0))


def theirs(seed: int = 0, width: int = WIDTH, **changes: object) -> SparseCoder:
    """A coder of eai-sparsify, all its parameters away from zero."""
    torch.manual_seed(seed)
    coder = SparseCoder(width, SparseCoderConfig(**{"num_latents": LATENTS, "k": K} | changes))  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        coder.encoder.bias.normal_(0, 0.3)
        coder.b_dec.normal_(0, 0.5)
    return coder


def written(folder: Path, coder: SparseCoder | None = None, **changes: object) -> Path:
    """Its folder, as sparsify writes it; `changes` of its config, None takes a key out."""
    (coder or theirs()).save_to_disk(folder)
    config = json.loads((folder / "cfg.json").read_text()) | changes
    (folder / "cfg.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return folder


def ours(seed: int = 0, applied: bool = True) -> SparseTopKTrainingSAE:
    sae = new_sae(WIDTH, SaeSettings(latents=LATENTS, k=K), "layers.2", seed)
    sae.cfg.apply_b_dec_to_input = applied
    with torch.no_grad():
        sae.b_enc.normal_(0, 0.3, generator=torch.Generator().manual_seed(seed))
        sae.b_dec.normal_(0, 0.5, generator=torch.Generator().manual_seed(seed + 1))
    return sae


@torch.no_grad()
def agree(sae: SparseTopKTrainingSAE, coder: SparseCoder) -> None:
    """Same latents and same reconstruction, to 1e-6 of its size."""
    values, indices = encode(sae, X)
    found = coder.encode(X)
    dense = [
        torch.zeros(len(X), LATENTS).scatter(-1, i, v)
        for v, i in ((values, indices), (found.top_acts, found.top_indices))
    ]
    assert torch.allclose(*dense, atol=1e-6, rtol=1e-6) and (dense[0] > 0).sum(-1).float().mean() > K / 2
    assert torch.allclose(reconstruct(sae, X), coder(X).sae_out, atol=2e-6, rtol=1e-6)


def change(path: Path, **values: object) -> None:
    """Keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def weights(folder: Path, edit: Callable[[dict[str, Tensor]], object]) -> None:
    """The tensors of a written coder."""
    tensors = load_file(folder / "sae.safetensors")
    edit(tensors)
    save_file(tensors, folder / "sae.safetensors")


def publish(hub: HubServer, folder: Path, repo: str = "alice/sae-tiny") -> None:
    """A folder as a repository of the test Hub."""
    hub.storage.create(repo, repo.partition("/")[0], private=False)
    hub.storage.advance(
        repo, {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    )
