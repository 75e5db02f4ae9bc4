"""What the manifest says of an SAE is what plain hooks and a hand say."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from resa_hub.config.recipe import SaeSettings
from resa_hub.engine.model.partial_forward import decoder_layers, hook_module, run_to_layer
from resa_hub.engine.sae.quality import quality
from resa_hub.engine.sae.topk import new_sae, reconstruct
from tests.helpers.models import batch_of, random_model


def test_quality_by_hand() -> None:
    """An SAE that rebuilds the first unit vector only, on states whose other coordinates are known."""
    model, batch = random_model("llama"), batch_of(2, 5)
    states = torch.zeros(2, 5, 32)
    states[:, :, 0] = torch.tensor([9.0, 1, 2, 3, 4])
    states[:, 1:, 1] = torch.tensor([1.0, -1, 1, -1])
    decoder_layers(model)[1].register_forward_hook(lambda *_: states)
    sae = new_sae(32, SaeSettings(latents=4, k=1), "layers.1", 0)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.zero_()
        sae.W_enc[0, 2] = sae.W_dec[2, 0] = 1.0
    found = quality(sae, [(model, [batch])], "layers.1")
    # Error: (+-1)^2 at four positions a row. Variance: 5 values (9,1,2,3,4) about 3.8 -> 38.8, and (0,1,-1,1,-1) about
    # 0 -> 4.
    assert found["fvu"] == pytest.approx(4 / 42.8)
    assert found["fvu_without_first"] == pytest.approx(4 / (5 + 4))
    assert found["l0"] == 1.0 and found["dead"] == 0.75


@pytest.mark.parametrize("hookpoint", ["layers.1", "layers.1.mlp"])
def test_the_splice_is_judged_as_plain_hooks_judge_it(hookpoint: str) -> None:
    """Cross entropy and KL by whole forward passes with a hook, and full logits; a perfect SAE costs nothing."""
    model, held = random_model("gemma2"), batch_of(3, 9)
    sae = new_sae(32, SaeSettings(latents=96, k=4), hookpoint, 0)
    found = quality(sae, [(model, [held])], hookpoint)
    states, targets = run_to_layer(model, held.ids, hookpoint), held.ids[:, 2:]

    def logits(change: Callable[[Tensor], Tensor] | None, first: bool = False) -> Tensor:
        def hook(module: object, args: object, output: Tensor | tuple) -> Tensor | tuple:
            state = output if isinstance(output, Tensor) else output[0]
            new = state if change is None else change(state).clone()
            if not first:
                new[:, 0] = state[:, 0]
            return new if isinstance(output, Tensor) else (new, *output[1:])

        handle = hook_module(model, hookpoint).register_forward_hook(hook)
        out = model(held.ids).logits[:, 1:-1].log_softmax(-1)
        handle.remove()
        return out

    def entropy(logits: Tensor) -> float:
        return float(-logits.gather(-1, targets[..., None]).mean())

    def divergence(logits: Tensor) -> float:
        return float((plain.exp() * (plain - logits)).sum(-1).mean())

    mean = states[:, 1:].flatten(0, 1).mean(0)
    plain, spliced, whole = (
        logits(None),
        logits(lambda s: reconstruct(sae, s)),
        logits(lambda s: reconstruct(sae, s), first=True),
    )
    zero, middle = logits(torch.zeros_like), logits(lambda s: mean.expand_as(s))
    wanted = {
        "ce": entropy(plain),
        "ce_spliced": entropy(spliced),
        "ce_zero": entropy(zero),
        "ce_mean": entropy(middle),
        "kl": divergence(spliced),
    }
    wanted |= {"ce_spliced_with_first": entropy(whole), "kl_with_first": divergence(whole)}
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, rel=1e-4) and found["kl"] > 0.01
    if entropy(zero) - entropy(plain) > 0.01:
        assert found["ce_recovered"] == pytest.approx(
            (entropy(zero) - entropy(spliced)) / (entropy(zero) - entropy(plain)), rel=1e-3
        )
    with torch.no_grad():  # x = relu(x) - relu(-x): 64 latents, all of them active at most
        eye = torch.eye(32)
        perfect = new_sae(32, SaeSettings(latents=64, k=64), hookpoint, 0)
        for name, value in {
            "W_enc": torch.cat([eye, -eye], 1),
            "W_dec": torch.cat([eye, -eye]),
            "b_enc": torch.zeros(64),
            "b_dec": torch.zeros(32),
        }.items():
            getattr(perfect, name).copy_(value)
    best = quality(perfect, [(model, [held])], hookpoint)
    assert (
        best["fvu"] < 1e-9
        and abs(best["kl_with_first"]) < 1e-5
        and best["ce_spliced"] == pytest.approx(best["ce"], abs=1e-5)
    )
    assert "kl_with_first" not in quality(sae, [(model, [held])], hookpoint, skip_first=False)
