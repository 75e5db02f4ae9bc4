"""The SAEs of many layers from one pass of the model: each is the one that its own extraction trains, and the model
runs once.
"""

from pathlib import Path

import pytest
import torch

from resa_hub.adapter.store import Store
from resa_hub.config.recipe import SaeSettings
from resa_hub.config.registry import Registry
from resa_hub.core.progress import Progress
from resa_hub.engine.checkpoint import Checkpoint
from resa_hub.engine.methods.layers import groups, training_bytes
from resa_hub.engine.model.partial_forward import run_to_layer, run_to_layers
from resa_hub.engine.sae import activations
from resa_hub.engine.sae.activations import OnePass
from resa_hub.engine.sae.train import sae_training_steps, train_interleaved, train_sae
from resa_hub.extraction.extract import extract, pretrain_saes
from resa_hub.extraction.plan import plan
from tests.conftest import QUICK
from tests.engine.test_sae_training import QUIET, SETTINGS, Dying, Killed, batches, equal
from tests.helpers.models import random_ids, random_model

HOOKPOINTS = ("layers.0", "layers.1.mlp", "layers.2", "layers.1")


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_neox"])
def test_several_states_of_one_pass_are_those_of_each(family: str) -> None:
    model, ids = random_model(family), random_ids()
    found = run_to_layers(model, ids, HOOKPOINTS)
    assert found.keys() == set(HOOKPOINTS) and all(
        torch.equal(found[at], run_to_layer(model, ids, at)) for at in HOOKPOINTS
    )
    assert not any(layer._forward_hooks for layer in model.modules())


@pytest.mark.slow
@pytest.mark.parametrize("buffer", [1 << 30, 3_000], ids=["one buffer", "many buffers"])
def test_saes_trained_in_step_are_those_trained_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buffer: int
) -> None:
    monkeypatch.setattr(activations, "BUFFER_BYTES", buffer)
    model, settings = random_model("llama"), SaeSettings(**SETTINGS)  # pyright: ignore[reportArgumentType]
    sources, judge = [(model, batches(3))], [(model, batches(1))]
    alone = [train_sae(sources, judge, settings, at, None, 5, QUIET).sae.state_dict() for at in HOOKPOINTS]
    read, kept = OnePass(HOOKPOINTS), [tmp_path / at for at in HOOKPOINTS]
    one = [sae_training_steps(sources, judge, settings, at, None, 5, QUIET, read=read) for at in HOOKPOINTS]
    assert all(equal(made.sae.state_dict(), wanted) for made, wanted in zip(train_interleaved(one), alone, strict=True))
    tokens, epochs = sum(batch.tokens for batch in sources[0][1]), 24 * 16 / activations.count_states(sources)
    assert read.tokens == tokens if buffer > 3_000 else read.tokens <= tokens * -(-epochs // 1)
    assert not read._waiting
    dying = [Dying(folder, 7 + number) for number, folder in enumerate(kept)]  # each dies at another step
    with pytest.raises(Killed):
        train_interleaved(
            [
                sae_training_steps(sources, judge, settings, at, None, 5, QUIET, c, read=OnePass(HOOKPOINTS))
                for at, c in zip(HOOKPOINTS, dying, strict=True)
            ]
        )
    read = OnePass(HOOKPOINTS)
    again = [
        sae_training_steps(sources, judge, settings, at, None, 5, QUIET, Checkpoint(folder), read=read)
        for at, folder in zip(HOOKPOINTS, kept, strict=True)
    ]
    assert all(
        equal(made.sae.state_dict(), wanted) for made, wanted in zip(train_interleaved(again), alone, strict=True)
    )


def test_groups_are_as_few_and_as_equal_as_memory_lets_them() -> None:
    layers = [str(n) for n in range(26)]
    assert [len(g) for g in groups(layers, 10, 1000)] == [26]
    assert [len(g) for g in groups(layers, 10, 120)] == [9, 9, 8]
    assert [len(g) for g in groups(layers, 10, 1)] == [1] * 26
    assert [at for group in groups(layers, 10, 70) for at in group] == layers
    settings = SaeSettings(latents=65_536, batch_tokens=2_048)
    assert (
        training_bytes(settings, 10**9, 1536) == activations.BUFFER_BYTES + 16 * 2 * 1536 * 65_536 + 4 * 2_048 * 65_536
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sae-tuning", "feature-diff"])
def test_an_extraction_takes_over_the_sae_that_was_prepared(
    tmp_path: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plans = [
        plan("tina-tiny", method=method, layer=layer, settings=[*QUICK, "rollouts.count=64"], registry=Registry())
        for layer in (0, 2)
    ]
    assert pretrain_saes(plans, workspace=tmp_path / "swept", progress=Progress()) == 2
    assert "train SAEs: 40 steps" in capsys.readouterr().err
    assert pretrain_saes(plans, workspace=tmp_path / "swept", progress=QUIET) == 0
    for made in plans:
        alone, _ = extract(plan=made, workspace=tmp_path / "alone", progress=QUIET)
        taken, new = extract(plan=made, workspace=tmp_path / "swept", progress=Progress())
        assert "the SAE is finished from before" in capsys.readouterr().err and new
        assert taken.manifest.content_hash == alone.manifest.content_hash
        assert (
            taken.manifest.run.costs["sae"].tokens == alone.manifest.run.costs["sae"].tokens
            and taken.manifest.run.costs["sae"].seconds > 0
        )
    assert pretrain_saes(plans, workspace=tmp_path / "swept", progress=QUIET) == 0
    assert len(Store(tmp_path / "swept/adapters").readable()[0]) == 2 and not list(
        (tmp_path / "swept/.resa-hub/work").glob("*/")
    )


def test_a_method_without_an_sae_prepares_nothing(tmp_path: Path) -> None:
    made = plan("tina-tiny", method="logit-distill", registry=Registry())
    assert pretrain_saes([made], workspace=tmp_path, progress=QUIET) == 0 and not (tmp_path / ".resa-hub").exists()
