"""SAEs: the sparse step equals SAELens' own, files are SAELens', the first position stays out."""

import json
from pathlib import Path

import pytest
import torch
from sae_lens import SAE, SAETrainer, TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.saes.sae import TrainStepInput
from torch import Tensor

from resa_hub.config.recipe import SaeSettings
from resa_hub.core.errors import DoesNotFit, RunFailed, Usage
from resa_hub.core.progress import Progress
from resa_hub.data.snapshots import SaeFiles
from resa_hub.engine.methods.sae_tuning import splice
from resa_hub.engine.methods.selection import Ranking, gather_latents, random_outside
from resa_hub.engine.model.partial_forward import decoder_layers
from resa_hub.engine.sae import activations, training_loop
from resa_hub.engine.sae.formats import load_saelens, save_saelens
from resa_hub.engine.sae.topk import (
    BufferPool,
    LatentCSR,
    SparseTopKTrainingSAE,
    encode,
    encode_topk,
    new_sae,
    reconstruct,
    reconstruct_with_gradient,
    set_memory_layout,
)
from resa_hub.engine.sae.train import train_sae
from tests.helpers.models import batch_of, random_model

SETTINGS = SaeSettings(mode="scratch", latents=96, k=8, learning_rate=2e-3, batch_tokens=64, steps=12)
QUIET = Progress(quiet=True)


def config(**changes: object) -> TopKTrainingSAEConfig:
    return TopKTrainingSAEConfig(**({"d_in": 24, "d_sae": 80, "k": 6, "rescale_acts_by_decoder_norm": False} | changes))  # pyright: ignore[reportArgumentType]


def step(sae: TopKTrainingSAE, x: Tensor, optimizer: torch.optim.Optimizer, dead: Tensor | None = None) -> Tensor:
    out = sae.training_forward_pass(TrainStepInput(x, {}, dead, 0, False))
    optimizer.zero_grad()
    out.loss.backward()
    optimizer.step()
    return out.loss.detach()


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("k", [1, 6, 80])
def test_the_sparse_step_equals_saelens_after_twenty_adam_steps(k: int, applied: bool) -> None:
    torch.manual_seed(0)
    dense = TopKTrainingSAE(config(k=k, apply_b_dec_to_input=applied))
    sparse = SparseTopKTrainingSAE(config(k=k, apply_b_dec_to_input=applied))
    sparse.load_state_dict(dense.state_dict())
    start = {name: t.clone() for name, t in dense.state_dict().items()}
    optimizers = [torch.optim.Adam(sae.parameters(), lr=1e-3) for sae in (dense, sparse)]
    for number in range(20):
        x = torch.randn(300, 24, generator=torch.Generator().manual_seed(number))
        losses = [step(sae, x, optimizer) for sae, optimizer in zip((dense, sparse), optimizers, strict=True)]
        assert torch.allclose(losses[0], losses[1], rtol=1e-5)
    for name, value in dense.state_dict().items():
        assert (value - start[name]).abs().max() > 1e-3
        assert (value - sparse.state_dict()[name]).abs().max() < 1e-6, name


def test_our_trainer_gives_saelens_own_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty steps of its trainer beside ours, the decoder left as Adam leaves it: fused Adam, the search in groups and
    sampled products change nothing.
    """
    monkeypatch.setattr(training_loop, "normalise", lambda sae: None)
    settings = SaeSettings(latents=1_024, k=3, learning_rate=1e-3, batch_tokens=300)
    sparse = new_sae(24, settings, "layers.1", 0)
    dense = TopKTrainingSAE(sparse.cfg)
    dense.load_state_dict(sparse.state_dict())
    ours, theirs = (
        training_loop.AdamTrainer(sparse, settings, 100),
        training_loop.AdamTrainer(new_sae(24, settings, "layers.1", 0), settings, 100).trainer,
    )
    theirs = SAETrainer(theirs.cfg, dense, iter(()))
    for number in range(20):
        x = torch.randn(300, 24, generator=torch.Generator().manual_seed(number))
        ours.step(x)
        theirs.step(x)
        theirs.n_training_steps += 1
    assert all((value - sparse.state_dict()[name]).abs().max() < 1e-6 for name, value in dense.state_dict().items())
    assert torch.equal(ours.trainer.act_freq_scores, theirs.act_freq_scores)


@pytest.mark.parametrize("latents", [100, 256, 600])
def test_sums_by_latent_lie_in_the_buffers_of_the_training(latents: int) -> None:
    """In pieces or whole they are the same, latents that never fire included, and the gradient is that very memory."""
    generator = torch.Generator().manual_seed(0)
    indices, values, x = (
        torch.randint(0, latents - 7, (50, 4), generator=generator),
        torch.randn(50, 4, generator=generator),
        torch.randn(50, 6),
    )
    wanted = torch.zeros(latents, 6, dtype=torch.double)
    for row in range(50):
        for latent, value in zip(indices[row].tolist(), values[row].tolist(), strict=True):
            wanted[latent] += value * x[row].double()
    assert (LatentCSR(indices, latents).weighted_sums(values, x, BufferPool(), "any") - wanted).abs().max() < 1e-5

    sae = SparseTopKTrainingSAE(config(d_sae=latents))
    set_memory_layout(sae, training=True)
    places = []
    for _ in range(2):
        sae.zero_grad()
        reconstruct_with_gradient(sae, torch.randn(30, sae.cfg.d_in, generator=generator))[0].pow(2).sum().backward()
        assert sae.W_enc.grad is not None and sae.W_dec.grad is not None
        places.append((sae.W_enc.grad.data_ptr(), sae.W_dec.grad.data_ptr()))
    assert places[0] == places[1] and places[0][0] != places[0][1]


@pytest.mark.parametrize(("latents", "k"), [(8_192, 32), (8_192, 1), (4_096, 32), (8_200, 32)])
def test_the_search_in_groups_finds_the_largest(latents: int, k: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weights, bias = (torch.randn(*shape, generator=generator) for shape in ((600, 16), (16, latents), (latents,)))
    values, indices = encode_topk(x, weights, bias, k)
    pre = torch.addmm(bias, x, weights)
    assert torch.allclose(values.sort(-1).values, pre.topk(k).values.flip(-1), atol=1e-5)
    assert torch.allclose(pre.gather(1, indices), values, atol=1e-5) and all(len(row.unique()) == k for row in indices)
    low, _ = encode_topk(x, weights, bias, k, bf16=True)
    assert 1e-4 < (low.sort(-1).values - values.sort(-1).values).abs().max() < 0.2


def test_dead_latents_get_saelens_own_auxiliary_loss() -> None:
    torch.manual_seed(0)
    dense, sparse, x = TopKTrainingSAE(config()), SparseTopKTrainingSAE(config()), torch.randn(50, 24)
    sparse.load_state_dict(dense.state_dict())
    dead = torch.arange(80) < 40
    outs = [sae.training_forward_pass(TrainStepInput(x, {}, dead, 0, False)) for sae in (dense, sparse)]
    assert torch.equal(outs[0].loss, outs[1].loss) and "auxiliary_reconstruction_loss" in outs[1].losses


def test_what_is_saved_loads_in_saelens_and_computes_the_same(tmp_path: Path) -> None:
    sae = train_sae(
        [(random_model("llama"), [batch_of()])],
        [(random_model("llama"), [batch_of(seed=1)])],
        SETTINGS,
        "layers.1",
        None,
        3,
        QUIET,
    ).sae
    save_saelens(sae, tmp_path / "sae", "some/model")
    plain, x = SAE.load_from_disk(tmp_path / "sae"), torch.randn(40, 32)
    values, indices = encode(sae, x)
    assert torch.allclose(plain.encode(x), torch.zeros(40, 96).scatter(-1, indices, values), atol=1e-6)
    assert torch.allclose(plain(x), reconstruct(sae, x), atol=1e-5)
    assert torch.equal(reconstruct(sae, x.view(4, 10, 32)).view(40, 32), reconstruct(sae, x))
    again = load_saelens(tmp_path / "sae", 32, "layers.1")
    assert all(torch.equal(t, again.state_dict()[name]) for name, t in sae.state_dict().items())
    assert (sae.W_dec.norm(dim=-1) - 1).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("hookpoint", "name", "hf_name"),
    [
        ("layers.2", "blocks.2.hook_resid_post", "model.layers.2"),
        ("layers.0.mlp", "blocks.0.hook_mlp_out", "model.layers.0.mlp"),
    ],
)
def test_the_metadata_names_the_hook_for_both_libraries(
    tmp_path: Path, hookpoint: str, name: str, hf_name: str
) -> None:
    save_saelens(new_sae(32, SETTINGS, hookpoint, 0), tmp_path, "some/model")
    text = (tmp_path / "cfg.json").read_text()
    content = json.loads(text)
    metadata = content["metadata"]
    assert (metadata["hook_name"], metadata["hf_hook_name"], metadata["model_name"]) == (name, hf_name, "some/model")
    assert text == json.dumps(content, indent=2, sort_keys=True) + "\n"  # SAELens' own order depends on the hash seed
    assert SAE.load_from_disk(tmp_path).cfg.metadata.hook_name == name


def trained(model: torch.nn.Module, settings: SaeSettings = SETTINGS, seed: int = 0) -> dict[str, Tensor]:
    made = train_sae([(model, [batch_of()])], [(model, [batch_of(seed=1)])], settings, "layers.1", None, seed, QUIET)  # pyright: ignore[reportArgumentType]
    return made.sae.state_dict()


def test_the_first_position_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Huge values at position 0 leave the SAE as it was; at position 1 they do not."""
    clean = trained(random_model("llama"))

    def poisoned(position: int) -> dict[str, Tensor]:
        model = random_model("llama")

        def poison(module: object, args: object, output: Tensor) -> Tensor:
            output = output.clone()
            output[:, position] = 1e6
            return output

        decoder_layers(model)[1].register_forward_hook(poison)
        return trained(model)

    first, second = poisoned(0), poisoned(1)
    assert all(torch.equal(clean[name], first[name]) for name in clean)
    assert not torch.equal(clean["W_enc"], second["W_enc"])


def test_the_splice_keeps_the_first_position() -> None:
    sae, state = new_sae(32, SETTINGS, "layers.1", 0), torch.randn(2, 5, 32)
    before = state.clone()
    out = splice(sae, state)
    assert torch.equal(out[:, 0], state[:, 0]) and torch.equal(out[:, 1:], reconstruct(sae, state)[:, 1:])
    assert torch.equal(state, before) and not torch.equal(out[:, 1:], state[:, 1:])


def test_training_is_a_function_of_the_seed_and_lowers_the_error() -> None:
    first, again, other = (
        trained(random_model("llama"), seed=1),
        trained(random_model("llama"), seed=1),
        trained(random_model("llama"), seed=2),
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["W_enc"], other["W_enc"])
    model = random_model("llama")
    short, long = (
        train_sae(
            [(model, [batch_of()])],
            [(model, [batch_of(seed=1)])],
            SaeSettings(latents=96, k=8, learning_rate=5e-3, batch_tokens=64, steps=s),
            "layers.1",
            None,
            0,
            QUIET,
        )
        for s in (1, 150)
    )
    assert long.quality["fvu"] < 0.8 * short.quality["fvu"]


def test_another_width_or_no_sae_does_not_fit(tmp_path: Path) -> None:
    save_saelens(new_sae(32, SETTINGS, "layers.1", 0), tmp_path / "sae", "some/model")
    with pytest.raises(DoesNotFit, match="width 32"):
        load_saelens(tmp_path / "sae", 64, "layers.1")
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "missing"):
        with pytest.raises(DoesNotFit, match="no SAE in SAELens format"):
            load_saelens(folder, 32, "layers.1")
    (tmp_path / "sae/cfg.json").write_text("{")
    with pytest.raises(DoesNotFit):
        load_saelens(tmp_path / "sae", 32, "layers.1")


def test_damaged_weights_do_not_fit(tmp_path: Path) -> None:
    save_saelens(new_sae(32, SETTINGS, "layers.1", 0), tmp_path, "some/model")
    (tmp_path / "sae_weights.safetensors").write_bytes(b"nonsense")
    with pytest.raises(DoesNotFit):
        load_saelens(tmp_path, 32, "layers.1")


def test_finetuning_starts_from_the_given_sae_and_pretrained_keeps_it(tmp_path: Path) -> None:
    model = random_model("llama")
    save_saelens(new_sae(32, SETTINGS, "layers.1", 7), tmp_path, "some/model")
    start, given = load_saelens(tmp_path, 32, "layers.1").state_dict(), SaeFiles("x", tmp_path, "saelens", "layers.1")
    sources = [(model, [batch_of()])]
    kept = train_sae(
        sources, sources, SaeSettings(mode="pretrained", latents=96, k=8), "layers.1", given, 0, QUIET
    ).sae.state_dict()
    tuned = train_sae(
        sources,
        sources,
        SaeSettings(mode="finetuned", learning_rate=1e-5, batch_tokens=64, steps=3),
        "layers.1",
        given,
        0,
        QUIET,
    ).sae.state_dict()
    assert all(torch.equal(start[name], kept[name]) for name in start)
    assert 0 < (tuned["W_enc"] - start["W_enc"]).abs().max() < 1e-3


@pytest.mark.parametrize(("latents", "k"), [(8, 0), (8, 9), (0, 1)])
def test_an_impossible_sparsity_is_refused(latents: int, k: int) -> None:
    with pytest.raises(Usage, match="active latents"):
        new_sae(32, SaeSettings(latents=latents, k=k), "layers.1", 0)


def test_a_learning_rate_that_explodes_is_told() -> None:
    with pytest.raises(RunFailed, match="not finite"):
        trained(random_model("llama"), SaeSettings(latents=96, k=8, learning_rate=1e30, batch_tokens=64, steps=12))


def test_the_stream_gives_each_state_once_a_pass_and_repeats_small_data(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = random_model("llama"), batch_of(4, 9)
    batches = activations.stream([(model, [batch])], "layers.1", 32, 8, 0)
    first, second = (torch.cat([next(batches) for _ in range(4)]) for _ in range(2))
    assert activations.count_states([(model, [batch])]) == 32
    assert not torch.equal(first, second) and torch.allclose(first.sum(0), second.sum(0), atol=1e-4)
    large = next(activations.stream([(model, [batch])], "layers.1", 32, 100, 0))
    assert large.shape == (100, 32) and len(large.unique(dim=0)) <= 32
    monkeypatch.setattr(
        activations, "BUFFER_BYTES", 1
    )  # every buffer is given out at once: two models, two buffers a pass
    small = activations.stream([(model, [batch]), (model, [batch])], "layers.1", 32, 8, 0)
    assert torch.allclose(torch.cat([next(small) for _ in range(4)]).sum(0), first.sum(0), atol=1e-4)


def test_gather_latents_keeps_the_chosen_latents_only() -> None:
    sae, state = new_sae(32, SETTINGS, "layers.1", 0), torch.randn(3, 6, 32)
    values, indices = encode(sae, state)
    dense = torch.zeros(3, 6, 96).scatter(-1, indices, values)
    slots, chosen = torch.full((96,), -1), torch.tensor([5, 90, 17])
    slots[chosen] = torch.arange(3)
    assert torch.equal(gather_latents(sae, state, slots, 3), dense[..., chosen]) and dense[..., chosen].any()


def test_random_features_come_from_outside_the_strongest_and_are_active() -> None:
    share = torch.tensor([0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.0, 0.0])
    ranking = Ranking(torch.arange(10), share)
    assert set(random_outside(ranking, 2, 0).tolist()) <= {4, 5, 6, 7}
    assert {tuple(random_outside(ranking, 2, seed).tolist()) for seed in range(20)} > {
        tuple(random_outside(ranking, 2, 0).tolist())
    }
    with pytest.raises(Usage, match="only 2 active features"):
        random_outside(ranking, 3, 0)
