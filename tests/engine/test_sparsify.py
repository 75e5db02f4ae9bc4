"""SAEs in sparsify's format: to the digit and back, to SAELens and back, and what is refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sae_lens import SAE
from safetensors.torch import load_file
from sparsify import SparseCoder

from resa_hub.core.errors import DoesNotFit
from resa_hub.core.progress import Progress
from resa_hub.data.snapshots import SaeFiles
from resa_hub.engine.model.tokens import Batch
from resa_hub.engine.sae.formats import load_saelens, load_sparsify, save_saelens, save_sparsify
from resa_hub.engine.sae.topk import reconstruct
from resa_hub.engine.sae.train import load_initial_sae
from tests.helpers.models import random_ids, random_model
from tests.helpers.small_saes import LATENTS, WIDTH, X, agree, change, ours, theirs, weights, written

OLD = {"activation": None, "skip_connection": None, "transcode": None}


@pytest.mark.parametrize(
    "layout",
    [{}, OLD, OLD | {"signed": False, "num_latents": 0, "expansion_factor": 2}],
    ids=["now", "old", "expansion factor"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_we_read_what_sparsify_writes(tmp_path: Path, layout: dict, dtype: torch.dtype) -> None:
    coder = theirs(num_latents=layout.get("num_latents", LATENTS), expansion_factor=2).to(dtype)
    written(tmp_path, coder, **layout)
    found = load_sparsify(tmp_path, WIDTH, "layers.2.mlp")
    assert found.cfg.apply_b_dec_to_input and found.cfg.metadata.hf_hook_name == "model.layers.2.mlp"
    if "expansion_factor" in layout:
        assert found.cfg.d_sae == 2 * WIDTH
        return
    agree(found, coder.float())


@pytest.mark.parametrize("applied", [True, False])
def test_sparsify_reads_what_we_write(tmp_path: Path, applied: bool) -> None:
    sae = ours(applied=applied)
    save_sparsify(sae, tmp_path)
    agree(sae, SparseCoder.load_from_disk(tmp_path))


def test_there_and_back_is_the_same_bytes(tmp_path: Path) -> None:
    first = written(tmp_path / "a")
    save_sparsify(load_sparsify(first, WIDTH, "layers.2"), tmp_path / "b")
    save_sparsify(load_sparsify(tmp_path / "b", WIDTH, "layers.2"), tmp_path / "c")
    weights = [load_file(tmp_path / name / "sae.safetensors") for name in "abc"]
    assert weights[0].keys() == weights[1].keys() and all(
        torch.equal(weights[0][name], weights[1][name]) for name in weights[0]
    )
    assert all(
        (tmp_path / "b" / name).read_bytes() == (tmp_path / "c" / name).read_bytes()
        for name in ("cfg.json", "sae.safetensors")
    )


def test_sparsify_to_saelens_and_back(tmp_path: Path) -> None:
    coder = theirs()
    save_saelens(load_sparsify(written(tmp_path / "a", coder), WIDTH, "layers.1"), tmp_path / "b", "some/model")
    with torch.no_grad():
        assert torch.allclose(SAE.load_from_disk(tmp_path / "b")(X), coder(X).sae_out, atol=2e-6)
    agree(load_saelens(tmp_path / "b", WIDTH, "layers.1"), coder)


def test_saelens_scaling_by_decoder_norm_is_folded_in(tmp_path: Path) -> None:
    sae = ours()
    with torch.no_grad():
        sae.W_dec.copy_(torch.linspace(0.5, 2, LATENTS)[:, None] * sae.W_dec)
    save_saelens(sae, tmp_path, "some/model")
    change(tmp_path / "cfg.json", rescale_acts_by_decoder_norm=True)
    with torch.no_grad():
        assert torch.allclose(
            reconstruct(load_saelens(tmp_path, WIDTH, "layers.2"), X), SAE.load_from_disk(tmp_path)(X), atol=1e-5
        )
    change(tmp_path / "cfg.json", normalize_activations="layer_norm")
    with pytest.raises(DoesNotFit, match="normalize_activations layer_norm"):
        load_saelens(tmp_path, WIDTH, "layers.2")


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "width": (lambda f: written(f, theirs(width=32)), "width 32"),
    "activation": (lambda f: written(f, activation="groupmax"), "activation groupmax"),
    "transcoder": (lambda f: written(f, transcode=True), "a transcoder"),
    "skip": (lambda f: written(f, skip_connection=True), "skip connection"),
    "latents": (lambda f: written(f, num_latents=95), "shape of encoder.weight"),
    "k": (lambda f: written(f, k=97), "k = 97 of 96"),
    "k of text": (lambda f: written(f, k="many"), "k = 'many'"),
    "no k": (lambda f: written(f, k=None), "k = 0"),
    "list": (lambda f: (written(f) / "cfg.json").write_text("[]"), "not a mapping"),
    "json": (lambda f: (written(f) / "cfg.json").write_text("{"), "no SAE in sparsify's format"),
    "cut": (
        lambda f: (written(f) / "sae.safetensors").write_bytes((f / "sae.safetensors").read_bytes()[:-8]),
        "no SAE in sparsify's format",
    ),
    "gone": (lambda f: (written(f) / "sae.safetensors").unlink(), "no SAE in sparsify's format"),
    "nan": (lambda f: weights(written(f), lambda t: t["b_dec"].fill_(torch.nan)), "not finite"),
    "one tensor less": (lambda f: weights(written(f), lambda t: t.pop("b_dec")), "shape of b_dec is None"),
    "one tensor more": (lambda f: weights(written(f), lambda t: t.update(W_skip=torch.zeros(2, 2))), "shape of W_skip"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_plain_topk_sae_of_this_width_does_not_fit(tmp_path: Path, name: str) -> None:
    make, reason = BROKEN[name]
    make(tmp_path)
    with pytest.raises(DoesNotFit, match=re.escape(reason)) as caught:
        load_sparsify(tmp_path, WIDTH, "layers.2")
    assert caught.value.hint


def test_a_decoder_that_is_not_of_unit_norm_stays_so_in_training(tmp_path: Path) -> None:
    model = random_model("llama")
    ids = random_ids(4, 10, 64)
    sources = [(model, [Batch(ids, torch.ones_like(ids, dtype=torch.bool))])]
    for scale, unit in ((1.0, True), (2.0, False)):
        coder = theirs(width=32)
        with torch.no_grad():
            coder.W_dec = torch.nn.Parameter(scale * torch.as_tensor(coder.W_dec))
        folder = written(tmp_path / str(scale), coder)
        sae, _ = load_initial_sae(
            SaeFiles("x", folder, "sparsify", "layers.1"), 32, "layers.1", sources, Progress(quiet=True)
        )
        assert sae.unit_decoder == unit
        save_sparsify(sae, tmp_path / "out")
        assert json.loads((tmp_path / "out/cfg.json").read_text())["normalize_decoder"] == unit
