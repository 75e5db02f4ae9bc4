"""Extraction from a name to an artifact: its layout, its identity, and that nothing half-written ever stays in the
store.
"""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from resa_hub.adapter.describe import lineage_tree
from resa_hub.adapter.layout import CARD, CONFIG, MANIFEST, WEIGHTS
from resa_hub.adapter.store import Adapter, Store, lacks_sae
from resa_hub.adapter.verify import verify_folder
from resa_hub.config.refs import AdapterRef
from resa_hub.core.errors import RunFailed, Usage
from resa_hub.core.files import walk
from resa_hub.core.progress import Progress
from resa_hub.extraction.extract import extract
from resa_hub.extraction.run import ExtractionRun, ResourceLimits
from tests.conftest import QUICK
from tests.helpers.adapters import kl_of, recipe_of
from tests.helpers.commands import HANG

SAE = "sae/layers.2"
RUN = """
import sys
from resa_hub.extraction.extract import extract
from tests.conftest import QUICK

for method in sys.argv[2].split(","):
    adapter, _ = extract("tina-tiny", method=method, workspace=sys.argv[1], settings=QUICK + sys.argv[3:])
    print(adapter.manifest.content_hash, flush=True)
"""


def quick(
    workspace: Path, source: str | None = "tina-tiny", settings: list[str] | None = None, **choices: Any
) -> tuple[Adapter, bool]:
    choices = {"method": "feature-diff"} | choices
    return extract(
        source, workspace=workspace, settings=QUICK + (settings or []), progress=Progress(quiet=True), **choices
    )


def left_in(workspace: Path) -> list[str]:
    """What lies in the store, the lock aside."""
    return (
        sorted(path for path in walk(workspace / "adapters") if path != ".lock" and not path.startswith(".blobs/"))
        if (workspace / "adapters").is_dir()
        else []
    )


def start(workspace: Path, methods: str, *settings: str, hash_seed: str = "0") -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    arguments = [sys.executable, "-W", "ignore", "-c", RUN, str(workspace), methods, *settings]
    return subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_artifact_is_a_plain_peft_folder_with_manifest_card_and_sae(made: Adapter) -> None:
    assert sorted(walk(made.folder)) == sorted(
        [CARD, CONFIG, WEIGHTS, MANIFEST, f"{SAE}/cfg.json", f"{SAE}/sae_weights.safetensors"]
    )
    assert made.folder.parts[-3:] == ("adapters", "tina-tiny-feature-diff-l2", "0.1.0")
    config = json.loads((made.folder / CONFIG).read_text())
    assert config["base_model_name_or_path"] == "resa-hub/tiny-r1" and config["peft_type"] == "LORA"
    assert left_in(made.folder.parents[2]) == sorted(
        f"tina-tiny-feature-diff-l2/0.1.0/{path}" for path in walk(made.folder)
    )


@pytest.mark.slow
def test_an_adapter_may_be_kept_without_its_sae_and_is_the_same_adapter(made: Adapter, tmp_path: Path) -> None:
    without, _ = quick(tmp_path, limits=ResourceLimits(keep_sae=False))
    assert sorted(walk(without.folder)) == sorted([CARD, CONFIG, WEIGHTS, MANIFEST]) and lacks_sae(without)
    assert verify_folder(without.folder).content_hash == made.manifest.content_hash
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        again, new = extract(
            "tina-tiny", method="feature-diff", workspace=tmp_path, settings=QUICK, progress=Progress()
        )
    assert (again.manifest.reference, new) == (without.manifest.reference, False)
    assert "was made without its SAE: `extract --again` keeps it" in said.getvalue()
    with pytest.raises(Usage, match="--no-sae has no effect with random"):
        quick(tmp_path, method="random", limits=ResourceLimits(keep_sae=False))


def test_verify_passes_and_the_manifest_says_what_was_done(made: Adapter) -> None:
    manifest = verify_folder(made.folder)
    assert manifest == made.manifest and manifest.reference == "tina-tiny-feature-diff-l2@0.1.0"
    assert (manifest.method, manifest.hookpoint, manifest.base.id) == ("feature-diff", "layers.2", "resa-hub/tiny-r1")
    assert manifest.source == "resa-hub/tiny-r1+resa-hub/tina-tiny" and len(manifest.parents) == 1
    assert [entry.path for entry in manifest.files] == sorted(
        [CONFIG, WEIGHTS, f"{SAE}/cfg.json", f"{SAE}/sae_weights.safetensors"]
    )
    assert manifest.data["elicit"].rows == 128 and recipe_of(manifest).sae.steps == 20 and kl_of(manifest) > 1e-3
    assert len(manifest.probe_texts) == 8 and len(manifest.run.findings["features"]) == 16
    assert (
        manifest.sae is not None
        and 0 < manifest.sae.quality["fvu_without_first"] < 1
        and 0 < manifest.sae.quality["l0"] <= 16
    )


def test_the_card_is_made_from_the_manifest(made: Adapter) -> None:
    card = (made.folder / CARD).read_text()
    assert (
        made.manifest.content_hash in card
        and "base_model: resa-hub/tiny-r1" in card
        and "No evaluation is attached" in card
    )


def test_the_sae_folder_loads_with_saelens(made: Adapter) -> None:
    from sae_lens import SAE as PlainSae

    sae = PlainSae.load_from_disk(made.folder / SAE)
    assert (sae.cfg.d_in, sae.cfg.d_sae, sae.cfg.metadata.hook_name) == (64, 256, "blocks.2.hook_resid_post")
    assert torch.isfinite(sae(torch.randn(3, 64))).all()


@pytest.mark.slow
def test_a_finished_recipe_is_not_run_twice_unless_asked(
    workspace: Path, made: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    present, new = quick(workspace)
    assert not new and present.manifest == made.manifest
    second, new = quick(workspace, again=True)
    assert new and second.manifest.version == "0.2.0"
    assert second.manifest.content_hash == made.manifest.content_hash
    assert quick(workspace)[0].manifest.version == "0.2.0"
    third, new = quick(workspace, seed=1)
    assert new and third.manifest.version == "0.3.0" and third.manifest.content_hash != made.manifest.content_hash
    monkeypatch.setattr(ExtractionRun, "into", lambda *_: pytest.fail("was run again"))
    assert quick(workspace, seed=1)[0].manifest.version == "0.3.0"


@pytest.mark.slow
def test_the_same_command_has_the_same_content_hash_under_other_hash_seeds(made: Adapter, tmp_path: Path) -> None:
    runs = [start(tmp_path / seed, "feature-diff,sae-tuning", hash_seed=seed) for seed in ("1", "999")]
    outputs = [run.communicate(timeout=HANG) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs[0][1]
    first, second = (output.split() for output, _ in outputs)
    assert first == second and len(set(first)) == 2
    assert first[0] == made.manifest.content_hash


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sae-tuning", "random-features", "pca-diff", "logit-distill"])
def test_every_method_makes_a_verified_adapter_of_its_own(made: Adapter, tmp_path: Path, method: str) -> None:
    adapter, new = quick(tmp_path, method=method)
    assert new and verify_folder(adapter.folder).method == method and kl_of(adapter.manifest) > 1e-4
    assert adapter.manifest.content_hash != made.manifest.content_hash
    assert (adapter.folder / "sae").is_dir() == (method in ("sae-tuning", "random-features"))
    layers = json.loads((adapter.folder / CONFIG).read_text())["layers_to_transform"]
    assert layers == ([3] if method == "sae-tuning" else None)


@pytest.mark.slow
def test_random_features_are_none_of_the_strongest(made: Adapter, tmp_path: Path) -> None:
    random = quick(tmp_path, method="random-features")[0].manifest.run.findings
    assert not set(random["features"]) & set(made.manifest.run.findings["features"])
    assert 0 < random["share_of_all"] < made.manifest.run.findings["share_of_all"]


@pytest.mark.slow
def test_an_mlp_hookpoint_trains_all_layers(tmp_path: Path) -> None:
    adapter, _ = quick(tmp_path, method="sae-tuning", settings=["hookpoint=layers.1.mlp"])
    assert (adapter.folder / "sae/layers.1.mlp/cfg.json").is_file() and adapter.manifest.name.endswith("-l1-mlp")
    assert json.loads((adapter.folder / CONFIG).read_text())["layers_to_transform"] is None


@pytest.mark.slow
def test_an_sae_can_be_taken_from_another_extraction(made: Adapter, tmp_path: Path) -> None:
    adapter, _ = quick(
        tmp_path, method="sae-tuning", settings=["sae.mode=pretrained", f"sae.origin={made.folder / SAE}"]
    )
    assert (adapter.folder / SAE / "sae_weights.safetensors").read_bytes() == (
        made.folder / SAE / "sae_weights.safetensors"
    ).read_bytes()


@pytest.mark.slow
def test_a_killed_extraction_leaves_nothing_but_its_staging_folder(tmp_path: Path) -> None:
    run = start(tmp_path, "feature-diff", "training.epochs=10000")
    assert run.stderr is not None
    for line in run.stderr:
        if line.strip().startswith("train SAE"):  # said when it is done: the adapter is being trained now, for hours
            break
    time.sleep(1)
    assert run.poll() is None
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert Store(tmp_path / "adapters").names() == []
    assert all(path.startswith(".staging/") for path in left_in(tmp_path))
    adapter, new = quick(tmp_path)
    assert new and adapter.manifest.version == "0.1.0" and verify_folder(adapter.folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "step",
    ["resa_hub.engine.run.save_lora", "resa_hub.engine.run.measure", "resa_hub.adapter.card.render", "os.rename"],
)
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), OSError(28, "No space left on device")], ids=["interrupt", "disk full"]
)
def test_an_interrupted_extraction_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(step, fail)
        with pytest.raises((KeyboardInterrupt, OSError, RunFailed)):
            quick(tmp_path, method="logit-distill", settings=["rollouts.count=32"])
    assert left_in(tmp_path) == [] and Store(tmp_path / "adapters").names() == []
    assert quick(tmp_path, method="logit-distill", settings=["rollouts.count=32"])[0].manifest.version == "0.1.0"


@pytest.mark.slow
def test_the_version_is_the_next_free_one_when_somebody_was_faster(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace / "adapters/tina-tiny-feature-diff-l2/0.1.0").rename(
        workspace / "adapters/tina-tiny-feature-diff-l2/0.4.0"
    )
    adapter, new = quick(workspace, seed=5)
    assert new and adapter.manifest.version == "0.5.0"
    assert Store(workspace / "adapters").get(AdapterRef("tina-tiny-feature-diff-l2")).manifest.version == "0.5.0"


def test_show_draws_what_an_adapter_was_made_from(made: Adapter) -> None:
    first, *rest = lineage_tree(made.manifest)
    assert first == made.manifest.reference and rest[-1].startswith("└─ data")
    assert any("target" in line and made.manifest.base.id in line for line in rest)
    assert any(line.startswith("│  └─ its LoRA") and made.manifest.parents[0][:19] in line for line in rest)


@pytest.mark.slow
def test_bfloat16_that_will_crawl_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from resa_hub.engine import run as extraction
    from resa_hub.engine.model import loading

    assert not loading.is_emulated("float32")
    monkeypatch.setattr(extraction, "is_emulated", lambda dtype: dtype == "bfloat16")
    for dtype in ("bfloat16", "float32"):
        extract(
            "tina-tiny",
            method="random",
            workspace=tmp_path / dtype,
            settings=[*QUICK, f"dtype={dtype}"],
            progress=Progress(),
        )
        assert ("--set dtype=float32" in capsys.readouterr().err) == (dtype == "bfloat16")
