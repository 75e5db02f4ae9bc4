"""A stage I that ends worse than the mean stops the extraction unless the recipe accepts it, and is told ever after."""

from pathlib import Path

import msgspec
import pytest
import torch

from resa_hub.adapter.card import render
from resa_hub.adapter.describe import sae_faults
from resa_hub.adapter.store import Adapter
from resa_hub.core.errors import RunFailed
from resa_hub.core.progress import Progress
from resa_hub.core.sae_quality import fault_of
from resa_hub.extraction.extract import extract
from tests.helpers.small_saes import theirs, written

QUIET = Progress(quiet=True)
FAST = ["trigger.rows=64", "elicit.rows=64", "training.epochs=1", "sae.steps=4", "sae.batch_tokens=64"]


@pytest.mark.parametrize(
    ("figures", "fault"),
    [
        ({"fvu_without_first": 0.99, "dead": 0.9, "tokens": 1e4}, ""),
        ({"fvu_without_first": 1.0}, "no better than their mean does (FVU 1,"),
        ({"fvu_without_first": float("nan")}, "FVU nan"),
        ({"fvu_without_first": 0.2, "dead": 0.95, "tokens": 1e4}, "leaves 95% of its latents dead"),
        ({"fvu_without_first": 0.2, "dead": 0.95, "tokens": 100}, ""),  # too few tokens for every latent to fire
        ({}, ""),
    ],
)
def test_what_is_too_bad(figures: dict[str, float], fault: str) -> None:
    found = fault_of(figures, latents=1_000, k=8)
    assert fault in found and bool(fault) == bool(found)


def made_with(tmp_path: Path, *settings: str) -> Adapter:
    """From an SAE whose b_dec lies far from the states, as of another hookpoint."""
    coder = theirs()
    with torch.no_grad():
        coder.b_dec.add_(30)
    written(tmp_path / "sae/layers.2", coder)
    said = [*FAST, f"sae.origin={tmp_path / 'sae'}", *settings]
    return extract("tina-tiny", method="sae-tuning", workspace=tmp_path, settings=said, progress=Progress(quiet=True))[
        0
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "remedy"), [("pretrained", "sae.mode=finetuned"), ("finetuned", "")])
def test_it_stops_and_says_what_to_do(tmp_path: Path, mode: str, remedy: str) -> None:
    with pytest.raises(RunFailed, match="no better than their mean") as caught:
        made_with(tmp_path, f"sae.mode={mode}")
    hint = caught.value.hint
    assert remedy in hint and "sae.reset_bias=true" in hint and "sae.accept_bad=true" in hint


@pytest.mark.slow
def test_the_remedy_helps(tmp_path: Path) -> None:
    made = made_with(tmp_path, "sae.mode=finetuned", "sae.reset_bias=true").manifest
    assert made.sae and made.sae.start and made.sae.start.fvu_here
    assert made.sae.quality["fvu_without_first"] < 1 < made.sae.start.fvu_here


@pytest.mark.slow
def test_what_is_accepted_is_told_in_manifest_and_card(tmp_path: Path) -> None:
    adapter = made_with(tmp_path, "sae.mode=pretrained", "sae.accept_bad=true")
    manifest = adapter.manifest
    assert manifest.recipe and manifest.recipe.sae.accept_bad and manifest.sae
    (fault,) = sae_faults(manifest)
    assert "the SAE at layers.2" in fault and fault[1:] in (adapter.folder / "README.md").read_text()
    good = msgspec.structs.replace(manifest.sae, quality=manifest.sae.quality | {"fvu_without_first": 0.1, "dead": 0.0})
    fine = msgspec.structs.replace(manifest, sae=good)
    assert not sae_faults(fine) and fault[1:] not in render(fine)
