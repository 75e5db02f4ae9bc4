"""Stage I beside the reference's loop, written anew here: sparsify's trainer on a mean-shifted SAE, plain and dense."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from resa_hub.config.recipe import SaeSettings
from resa_hub.core.progress import Progress
from resa_hub.engine.checkpoint import Checkpoint
from resa_hub.engine.sae.formats import load_sparsify
from resa_hub.engine.sae.topk import SparseTopKTrainingSAE, reconstruct
from resa_hub.engine.sae.training_loop import fit
from tests.helpers.small_saes import WIDTH, K, theirs, written

QUIET = Progress(quiet=True)
STEPS, ROWS, RATE, MOMENTUM = 12, 48, 2.5e-3, 0.95
BATCHES = torch.randn(STEPS, ROWS, WIDTH, generator=torch.Generator().manual_seed(3))
BATCHES[..., :3] += 4  # states whose mean lies elsewhere than that of the SAE's own


def reference(weights: dict[str, Tensor], reset_bias: bool) -> dict[str, Tensor]:
    """Schedule-free sign SGD on the FVU, dense and by autograd; weights: encoder, bias, decoder, b_dec."""
    y = {name: tensor.clone().requires_grad_() for name, tensor in weights.items()}
    if reset_bias:
        y["b_dec"].data = BATCHES[0].mean(0)
    with torch.no_grad():
        y["decoder"] /= y["decoder"].norm(dim=-1, keepdim=True)
    z = x = {name: tensor.detach().clone() for name, tensor in y.items()}
    for step, batch in enumerate(BATCHES):
        with torch.no_grad():
            y["decoder"] /= y["decoder"].norm(dim=-1, keepdim=True)
        latents = torch.relu((batch - y["b_dec"]) @ y["encoder"].T + y["bias"])
        top = latents.topk(K)
        out = torch.zeros_like(latents).scatter(-1, top.indices, top.values) @ y["decoder"] + y["b_dec"]
        fvu = (batch - out).pow(2).sum() / (batch - batch.mean(0)).pow(2).sum()
        gradients = dict(zip(y, torch.autograd.grad(fvu, list(y.values())), strict=True))
        direction = y["decoder"].detach()
        gradients["decoder"] -= (gradients["decoder"] * direction).sum(-1, keepdim=True) * direction
        # The average x is weighted equally; the gradient is taken between it and the base iterate z.
        x = {name: ((MOMENTUM - 1) * z[name] + y[name].detach()) / MOMENTUM for name in y}
        z = {name: z[name] - RATE * gradients[name].sign() for name in y}
        x = {name: x[name] + (z[name] - x[name]) / (step + 1) for name in y}
        for name, tensor in y.items():
            tensor.data = MOMENTUM * x[name] + (1 - MOMENTUM) * z[name]
    x["decoder"] /= x["decoder"].norm(dim=-1, keepdim=True)
    return x


def named(sae: SparseTopKTrainingSAE) -> dict[str, Tensor]:
    found = {"encoder": sae.W_enc.T, "bias": sae.b_enc, "decoder": sae.W_dec, "b_dec": sae.b_dec}
    return {name: tensor.detach().clone() for name, tensor in found.items()}


def start(folder: Path) -> SparseTopKTrainingSAE:
    """An SAE of sparsify's with a decoder of unit norm, all its parameters away from zero."""
    return load_sparsify(written(folder, theirs()), WIDTH, "layers.2.mlp")


def fitted(sae: SparseTopKTrainingSAE, reset_bias: bool) -> dict[str, Tensor]:
    settings = SaeSettings(optimizer="signum", learning_rate=RATE, batch_tokens=ROWS, skip_first=False)
    sae.unit_decoder = True
    steps = fit(
        sae, lambda **_: iter(BATCHES), settings, STEPS, reset_bias=reset_bias, progress=QUIET, checkpoint=Checkpoint()
    )
    assert len(list(steps)) == STEPS
    return named(sae)


@pytest.mark.parametrize("reset_bias", [True, False])
def test_finetuning_is_the_reference_loop(tmp_path: Path, reset_bias: bool) -> None:
    sae = start(tmp_path)
    wanted, other = reference(named(sae), reset_bias), reference(named(sae), not reset_bias)
    found = fitted(sae, reset_bias)
    for name, tensor in wanted.items():
        # A sign of a gradient near zero may fall either way: a step of the rate, in few places.
        differing = ((found[name] - tensor).abs() > 1e-5).float().mean()
        assert differing < 0.01, (name, float(differing))
    assert (found["b_dec"] - other["b_dec"]).abs().max() > 1


def test_the_reset_brings_an_sae_of_another_hookpoint_to_the_states(tmp_path: Path) -> None:
    def fvu(reset_bias: bool) -> float:
        sae = start(tmp_path)
        fitted(sae, reset_bias)
        states = BATCHES.flatten(0, 1)
        with torch.no_grad():
            error = (states - reconstruct(sae, states)).pow(2).sum()
        return float(error / (states - states.mean(0)).pow(2).sum())

    assert fvu(True) < 0.9 * fvu(False)
