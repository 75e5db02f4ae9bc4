"""Training an SAE: the reference code's optimiser, half precision, and going on after a kill with the same bytes."""

from pathlib import Path

import pytest
import torch
from schedulefree import ScheduleFreeWrapper
from torch import Tensor

from resa_hub.config.recipe import SaeSettings
from resa_hub.core.errors import RunFailed
from resa_hub.core.progress import Progress
from resa_hub.engine.checkpoint import Checkpoint
from resa_hub.engine.model.tokens import Batch
from resa_hub.engine.sae import activations
from resa_hub.engine.sae.signum import SignumTrainer
from resa_hub.engine.sae.topk import new_sae
from resa_hub.engine.sae.train import train_sae
from tests.helpers.models import random_model

QUIET = Progress(quiet=True)
SETTINGS = {"mode": "scratch", "latents": 96, "k": 8, "learning_rate": 3e-3, "batch_tokens": 16, "steps": 24}


def batches(count: int, rows: int = 4, length: int = 9) -> list[Batch]:
    generator = torch.Generator().manual_seed(count)
    drawn = [torch.randint(0, 20, (rows, length), generator=generator) for _ in range(count)]
    return [Batch(ids, torch.ones_like(ids, dtype=torch.bool)) for ids in drawn]


def weights(checkpoint: Checkpoint = Checkpoint(), count: int = 3, **changes: object) -> dict[str, Tensor]:
    model, settings = random_model("llama"), SaeSettings(**SETTINGS | changes)  # pyright: ignore[reportArgumentType]
    return train_sae(
        [(model, batches(count))], [(model, batches(1))], settings, "layers.1", None, 5, QUIET, checkpoint
    ).sae.state_dict()


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Killed(Exception):
    pass


class Dying(Checkpoint):
    """Saves at every step, and dies behind the n-th."""

    def __init__(self, folder: Path, after: int) -> None:
        super().__init__(folder, every=0)
        self.left = after

    def save(self, name: str, state: dict) -> None:
        super().save(name, state)
        self.left -= 1
        if self.left == 0:
            raise Killed


@pytest.mark.parametrize("optimizer", ["adam", "signum"])
@pytest.mark.parametrize("buffer", [1 << 30, 3_000], ids=["one buffer", "many buffers"])
def test_a_killed_training_goes_on_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str, buffer: int
) -> None:
    monkeypatch.setattr(activations, "BUFFER_BYTES", buffer)
    whole = weights(optimizer=optimizer)
    for after in (1, 9, 11):
        with pytest.raises(Killed):
            weights(Dying(tmp_path, after), optimizer=optimizer)
    assert equal(weights(Checkpoint(tmp_path), optimizer=optimizer), whole)


def test_a_cut_state_is_not_taken_for_one(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        weights(Dying(tmp_path, 5))
    state = tmp_path / "sae.pt"
    state.write_bytes(state.read_bytes()[:-200])
    assert equal(weights(Checkpoint(tmp_path)), weights())


def test_no_state_is_computed_for_what_was_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "BUFFER_BYTES", 1)
    model, computed = random_model("llama"), []
    plain = activations.compute_states
    monkeypatch.setattr(activations, "compute_states", lambda *a: (computed.append(1), plain(*a))[1])
    sources = [(model, batches(6))]
    full = activations.stream(sources, "layers.1", 32, 16, 0)
    taken = [next(full) for _ in range(30)]
    computed.clear()
    later = activations.stream(sources, "layers.1", 32, 16, 0, start=27)
    assert all(torch.equal(next(later), batch) for batch in taken[27:]) and len(computed) <= 3


def test_texts_without_a_second_token_are_refused() -> None:
    model = random_model("llama")
    with pytest.raises(RunFailed, match="no token behind the first"):
        next(activations.stream([(model, batches(2, length=1))], "layers.1", 32, 16, 0))
    assert next(activations.stream([(model, batches(2, length=1))], "layers.1", 32, 4, 0, skip_first=False)).shape == (
        4,
        32,
    )


def test_the_first_position_is_left_out_unless_asked_for() -> None:
    sources = [(random_model("llama"), batches(2))]
    assert (activations.count_states(sources), activations.count_states(sources, skip_first=False)) == (64, 72)
    assert not equal(weights(), weights(skip_first=False))


def test_signum_is_the_reference_codes_own_to_five_digits() -> None:
    """eai-sparsify's pieces in a plain loop: 20 steps, the same FVU each and the same averaged weights."""
    from sparsify import SparseCoder, SparseCoderConfig
    from sparsify.sign_sgd import SignSGD

    torch.manual_seed(0)
    data = [torch.randn(64, 32) @ torch.randn(32, 32) for _ in range(20)]
    ours = new_sae(32, SaeSettings(latents=96, k=8), "layers.1", 0)
    theirs = SparseCoder(32, SparseCoderConfig(num_latents=96, k=8), dtype=torch.float32)
    with torch.no_grad():
        theirs.encoder.weight.copy_(ours.W_enc.T)
        theirs.encoder.bias.copy_(ours.b_enc)
        assert theirs.W_dec is not None
        theirs.W_dec.copy_(ours.W_dec)
        for bias in (ours.b_dec, theirs.b_dec):
            bias.copy_(data[0].mean(0))
    trainer = SignumTrainer(ours, 1e-3)
    optimizer = ScheduleFreeWrapper(SignSGD(list(theirs.parameters()), lr=1e-3), momentum=0.95)
    optimizer.train()
    for batch in data:
        theirs.set_decoder_norm_to_unit_norm()
        fvu = theirs(batch).fvu
        fvu.backward()
        theirs.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        optimizer.zero_grad()
        assert trainer.step(batch) == pytest.approx(float(fvu), rel=1e-5)
    optimizer.eval()
    trainer.optimizer.eval()
    assert torch.allclose(ours.W_enc.T, theirs.encoder.weight, atol=1e-6) and torch.allclose(
        ours.W_dec, theirs.W_dec, atol=1e-6
    )
    assert torch.allclose(ours.b_enc, theirs.encoder.bias, atol=1e-6) and torch.allclose(
        ours.b_dec, theirs.b_dec, atol=1e-6
    )


def test_a_half_precision_encoder_trains_an_sae_as_good() -> None:
    model, data = random_model("llama"), batches(20)
    fvu = {}
    for precision in ("float32", "bfloat16"):
        settings = SaeSettings(
            mode="scratch", latents=96, k=8, learning_rate=3e-3, batch_tokens=64, steps=150, encoder=precision
        )  # pyright: ignore[reportArgumentType]
        made = train_sae([(model, data)], [(model, batches(2))], settings, "layers.1", None, 0, QUIET)
        assert not made.sae.low_precision
        fvu[precision] = made.quality["fvu_without_first"]
    assert fvu["bfloat16"] == pytest.approx(fvu["float32"], rel=0.05) and fvu["bfloat16"] != fvu["float32"]
