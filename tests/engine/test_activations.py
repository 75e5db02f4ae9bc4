"""Activations in bounded memory, and on disk where that is asked for: the same states, whole or not at all, and gone
when they are not needed.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from resa_hub.config.recipe import SaeSettings
from resa_hub.engine.cost_tracker import _reset_peaks, peak_memory
from resa_hub.engine.model.tokens import Batch
from resa_hub.engine.sae import activations
from resa_hub.engine.sae.activations import ActivationCache
from resa_hub.engine.sae.quality import quality
from resa_hub.engine.sae.topk import new_sae
from tests.helpers.models import random_ids, random_model

MB = 1 << 20


def batches(count: int, rows: int = 4, positions: int = 9) -> list[Batch]:
    drawn = [random_ids(rows, positions, 64, seed) for seed in range(count)]
    return [Batch(ids, torch.ones_like(ids, dtype=torch.bool)) for ids in drawn]


class Taken:
    """Batches of three passes over six buffers, and how many buffers were computed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype = torch.float32) -> None:
        self.computed, self.model, plain = 0, random_model("llama").to(dtype), activations.compute_states  # pyright: ignore[reportArgumentType, reportCallIssue]
        monkeypatch.setattr(activations, "BUFFER_BYTES", 1)

        def counted(*arguments: object) -> Tensor:
            self.computed += 1
            return plain(*arguments)  # pyright: ignore[reportArgumentType]

        monkeypatch.setattr(activations, "compute_states", counted)

    def __call__(self, cache: ActivationCache | None = None, start: int = 0) -> list[Tensor]:
        self.computed = 0
        stream = activations.stream([(self.model, batches(6))], "layers.1", 32, 16, 3, start=start, cache=cache)
        return [next(stream) for _ in range(36 - start)]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_kept_on_disk_equals_what_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    take = Taken(monkeypatch, dtype)
    plain = take()
    assert take.computed == 18 and all(batch.dtype == torch.float32 for batch in plain)
    cache = ActivationCache(tmp_path / "a", 1 << 30)
    assert equal(take(cache), plain) and take.computed == 6
    assert len(list((tmp_path / "a").iterdir())) == 6
    assert load_file(tmp_path / "a/0.safetensors")["states"].dtype == dtype
    cache.close()
    assert not (tmp_path / "a").exists()


def test_a_killed_run_goes_on_with_what_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take = Taken(monkeypatch)
    plain = take(ActivationCache(tmp_path, 1 << 30))
    (tmp_path / "4.new").write_bytes(b"half")
    (tmp_path / "2.safetensors").write_bytes((tmp_path / "2.safetensors").read_bytes()[:-9])
    (tmp_path / "5.safetensors").unlink()
    assert equal(take(ActivationCache(tmp_path, 1 << 30), start=7), plain[7:])
    assert take.computed == 2 and not list(tmp_path.glob("*.new")) and len(list(tmp_path.iterdir())) == 6


def test_the_cache_is_bounded_and_a_full_disk_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take = Taken(monkeypatch)
    plain, one = take(), 4 * 8 * 32 * 4
    assert equal(take(ActivationCache(tmp_path / "a", 2 * one)), plain) and take.computed == 2 + 3 * 4
    assert sum(path.stat().st_size for path in (tmp_path / "a").iterdir()) < 2 * one + 400
    assert ActivationCache(tmp_path / "a", 2 * one).left < one
    broken = ActivationCache(tmp_path / "b", 1 << 30)
    (tmp_path / "b").rmdir()
    (tmp_path / "b").write_bytes(b"")  # nothing can be written below it
    assert equal(take(broken), plain) and take.computed == 18 and broken.left == 0


@pytest.mark.slow
def test_memory_does_not_grow_with_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """A buffer of 4 MB, and 4 or 64 MB of states that go through it and through the judging of an SAE."""
    model = random_model("llama", max_position_embeddings=4_096)
    monkeypatch.setattr(activations, "BUFFER_BYTES", 4 * MB)
    sae = new_sae(32, SaeSettings(latents=128, k=4), "layers.1", 0)

    def growth(count: int) -> int:
        data = batches(count, 64, 129)
        sources = [(model, data)]
        _reset_peaks()
        before = peak_memory()
        stream = activations.stream(sources, "layers.1", 32, 4_096, 0)
        for _ in range(activations.count_states(sources) // 4_096):
            next(stream)
        quality(sae, sources, "layers.1")
        return peak_memory() - before

    growth(4)  # the allocator's own pools
    small, large = growth(4), growth(64)
    assert large < small + 24 * MB, (small, large)
