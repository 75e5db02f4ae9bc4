"""The SAE that stage I starts from: where it is found, what is refused, and what the manifest keeps."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from msgspec import to_builtins
from sae_lens import SAE
from sparsify import SparseCoder

from resa_hub.adapter.store import Adapter
from resa_hub.adapter.verify import verify_folder
from resa_hub.config.recipe import Recipe, override
from resa_hub.config.registry import Registry
from resa_hub.core.errors import DoesNotFit, HubError, NotFound, Usage
from resa_hub.core.progress import Progress
from resa_hub.core.strict import structure
from resa_hub.data import saes
from resa_hub.data.snapshots import SaeFiles
from resa_hub.data.tiny import WEIGHTS
from resa_hub.engine.sae.formats import load_saelens, save_saelens, save_sparsify
from resa_hub.engine.sae.topk import reconstruct
from resa_hub.extraction.extract import extract
from tests.helpers.commands import HANG, resa_hub
from tests.helpers.hub_server.server import HubServer
from tests.helpers.small_saes import LATENTS, WIDTH, K, X, agree, ours, publish, theirs, written

QUIET = Progress(quiet=True)
FAST = ["trigger.rows=64", "elicit.rows=64", "training.epochs=1", "sae.steps=4", "sae.batch_tokens=64"]


def start(asked: Recipe) -> SaeFiles:
    """The only one."""
    (found,) = saes.initial_saes(asked, Registry()).values()
    return found


def recipe(origin: str | None, hookpoint: str = "layers.2", mode: str = "pretrained", **changes: object) -> Recipe:
    said = [f"{key}={value}" for key, value in ({"sae.mode": mode, "hookpoint": hookpoint} | changes).items()]
    values = to_builtins(Registry().recipe("tiny-sae-tuning"))
    return structure(override(values, [*said, *([f"sae.origin={origin}"] if origin else [])]), Recipe, "test")


@pytest.fixture(name="many", scope="module")
def folder_of_many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each hookpoint, in both formats."""
    root = tmp_path_factory.mktemp("many")
    for seed, name in enumerate(("layers.0.mlp", "layers.1", "layers.1.mlp")):
        written(root / name, theirs(seed))
    save_saelens(ours(), root / "blocks.2.hook_resid_post", "tina-tiny")
    return root


@pytest.mark.parametrize(
    ("tail", "hookpoint", "changes", "folder", "made_for"),
    [
        ("", "layers.1", {}, "layers.1", "layers.1"),
        ("", "layers.1.mlp", {}, "layers.1.mlp", "layers.1.mlp"),
        ("", "layers.2", {}, "blocks.2.hook_resid_post", "layers.2"),
        ("", "layers.0", {"sae.any_hookpoint": "true"}, "layers.0.mlp", "layers.0.mlp"),
        ("#layers.1", "layers.1", {}, "layers.1", "layers.1"),
        ("#layers.1", "layers.2", {"sae.any_hookpoint": "true"}, "layers.1", "layers.1"),
        ("/layers.1", "layers.1", {}, "layers.1", "layers.1"),
    ],
)
def test_the_folder_of_the_hookpoint_is_taken(
    many: Path, tail: str, hookpoint: str, changes: dict, folder: str, made_for: str
) -> None:
    found = start(recipe(f"{many}{tail}", hookpoint, **changes))
    assert (found.folder, found.hookpoint, found.format) == (
        many / folder,
        made_for,
        "saelens" if folder.startswith("blocks") else "sparsify",
    )


def test_a_folder_that_says_nothing_is_taken_at_its_word(tmp_path: Path) -> None:
    written(tmp_path / "mine")
    assert start(recipe(f"{tmp_path}/mine")).hookpoint is None
    assert start(recipe(f"{tmp_path}/mine#layers.2")).hookpoint == "layers.2"
    with pytest.raises(DoesNotFit, match=r"made for layers.1, not for layers.2"):
        saes.initial_saes(recipe(f"{tmp_path}/mine#layers.1"), Registry())


@pytest.mark.parametrize(
    ("tail", "hookpoint", "error", "reason"),
    [
        ("", "layers.0", DoesNotFit, "no SAE of layers.0, only of"),
        ("/layers.1", "layers.2", DoesNotFit, "made for layers.1, not for layers.2"),
        ("/layers.1#layers.2", "layers.2", DoesNotFit, "says that it was made for layers.1"),
        ("/nothing", "layers.1", NotFound, "does not exist"),
        ("#layer.1", "layers.1", Usage, "not a hookpoint"),
    ],
)
def test_what_fits_not_is_refused(many: Path, tail: str, hookpoint: str, error: type[HubError], reason: str) -> None:
    with pytest.raises(error, match=reason) as caught:
        saes.initial_saes(recipe(f"{many}{tail}", hookpoint), Registry())
    assert caught.value.hint


def test_refusals_of_base_damage_and_nothing(tmp_path: Path) -> None:
    save_saelens(ours(), tmp_path / "sae", "someone/else")
    with pytest.raises(DoesNotFit, match="made for someone/else, not for tina-tiny"):
        saes.initial_saes(recipe(f"{tmp_path}/sae"), Registry())
    with pytest.raises(DoesNotFit, match=r"sae-r1-65k was made for r1-distill-1\.5b"):
        saes.initial_saes(recipe("sae-r1-65k"), Registry())
    (tmp_path / "sae/cfg.json").write_text("{")
    with pytest.raises(DoesNotFit, match="damaged"):
        saes.initial_saes(recipe(f"{tmp_path}/sae"), Registry())
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound, match="holds no SAE"):
        saes.initial_saes(recipe(f"{tmp_path}/empty"), Registry())
    with pytest.raises(Usage, match="needs an SAE to start from"):
        saes.initial_saes(recipe(None), Registry())
    assert saes.initial_saes(recipe(None, mode="scratch"), Registry()) == {}
    assert saes.initial_saes(recipe(None, method="logit-distill"), Registry()) == {}


def test_the_paper_needs_no_flag_and_the_reference_code_has_it() -> None:
    """The public SAEs are of MLP outputs; the reference code splices them in at the layer's output."""
    code, paper = (Registry().recipe(name) for name in ("resa-still-v1", "resa-still-v1-paper"))
    assert (code.hookpoint, code.sae.any_hookpoint) == ("layers.12", True)
    assert (paper.hookpoint, paper.sae.any_hookpoint) == ("layers.12.mlp", False)


def made_with(workspace: Path, *settings: str, method: str = "sae-tuning") -> Adapter:
    said = FAST + (["rollouts.count=32", "features=8"] if method == "feature-diff" else [])
    return extract("tina-tiny", method=method, workspace=workspace, settings=said + list(settings), progress=QUIET)[0]


@pytest.mark.slow
def test_pretrained_keeps_finetuned_moves_and_the_manifest_tells(tmp_path: Path) -> None:
    coder = theirs()
    folder = written(tmp_path / "layers.2", coder)
    origin = f"sae.origin={tmp_path}"
    kept, moved = (made_with(tmp_path / "home", origin, f"sae.mode={mode}") for mode in ("pretrained", "finetuned"))
    for adapter in (kept, moved):
        manifest = verify_folder(adapter.folder)
        assert manifest.sae and manifest.sae.start
        assert (manifest.sae.origin, manifest.sae.latents, manifest.sae.k) == (
            str(tmp_path),
            LATENTS,
            K,
        )  # not the recipe's 1,024 and 16
        start = manifest.sae.start
        assert (start.format, start.hookpoint, start.fvu_there) == ("sparsify", "layers.2", None) and start.fvu_here
        assert start.digest == SaeFiles("", folder, "sparsify", None).digest
    assert kept.manifest.sae and kept.manifest.sae.start
    assert kept.manifest.sae.start.fvu_here == pytest.approx(kept.manifest.sae.quality["fvu_without_first"])
    agree(load_saelens(kept.folder / "sae/layers.2", WIDTH, "layers.2"), coder)
    tuned = load_saelens(moved.folder / "sae/layers.2", WIDTH, "layers.2")
    assert tuned.cfg.apply_b_dec_to_input and 0 < (tuned.W_dec - torch.as_tensor(coder.W_dec)).abs().max() < 0.1
    with torch.no_grad():
        assert torch.allclose(SAE.load_from_disk(moved.folder / "sae/layers.2")(X), reconstruct(tuned, X), atol=1e-5)
    save_sparsify(tuned, tmp_path / "back")
    agree(tuned, SparseCoder.load_from_disk(tmp_path / "back"))
    # Other bytes under the same name are another input.
    written(folder, theirs(seed=1))
    again = made_with(tmp_path / "home", origin, "sae.mode=pretrained")
    assert again.manifest.recipe == kept.manifest.recipe and again.manifest.recipe_digest != kept.manifest.recipe_digest
    assert again.manifest.content_hash != kept.manifest.content_hash


@pytest.mark.slow
def test_an_sae_of_an_adapter_starts_another_extraction(made: Adapter, tmp_path: Path) -> None:
    adapter = made_with(tmp_path, f"sae.origin={made.folder}/sae", "sae.mode=pretrained", method="feature-diff")
    assert adapter.manifest.sae and made.manifest.sae and adapter.manifest.sae.start
    assert (
        adapter.manifest.sae.start.format == "saelens"
        and adapter.manifest.sae.latents == made.manifest.sae.latents == 256
    )
    for name in ("cfg.json", "sae_weights.safetensors"):
        assert (adapter.folder / "sae/layers.2" / name).read_bytes() == (
            made.folder / "sae/layers.2" / name
        ).read_bytes()


def test_each_of_several_hookpoints_starts_from_its_own(many: Path) -> None:
    asked = recipe(str(many), method="feature-diff", hookpoints="[layers.1, layers.2]")
    assert {at: found.folder.name for at, found in saes.initial_saes(asked, Registry()).items()} == {
        "layers.1": "layers.1",
        "layers.2": "blocks.2.hook_resid_post",
    }
    with pytest.raises(Usage, match="settled"):
        saes.initial_saes(recipe(str(many), "auto", method="feature-diff"), Registry())


REGISTRY = """
models:
  hub-r1: {id: alice/tiny-r1}
  hub-tina: {base: hub-r1, adapter: {id: alice/tina}}
saes:
  sae-tiny: {id: alice/sae-tiny, format: sparsify, base: hub-r1, hookpoints: "layers.{N}.mlp", latents: 96, k: 6}
"""
STARTS = """
import sys
from resa_hub.data import saes
from resa_hub.core.errors import HubError
from resa_hub.extraction.plan import plan
from resa_hub.config.registry import Registry
for origin, hookpoint in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        settings = ["sae.mode=pretrained", f"sae.origin={origin}", f"hookpoint={hookpoint}"]
        recipe = plan("tina-tiny", settings=settings, registry=Registry()).recipe
        (found,) = saes.initial_saes(recipe, Registry()).values()
        print(found.folder.name, found.hookpoint, sorted(p.name for p in found.folder.iterdir()))
    except HubError as error:
        print(type(error).__name__, error.message)
"""


@pytest.mark.slow
def test_from_the_hub_one_folder_is_fetched_and_the_mismatch_is_told(
    hub: HubServer, many: Path, tmp_path: Path
) -> None:
    """The whole way through the command line and over HTTP, models included: an MLP SAE at the layer's output, as the
    reference code does it.
    """
    publish(hub, many)
    for name, repo in (("tiny-r1", "alice/tiny-r1"), ("tina-tiny", "alice/tina")):
        publish(hub, WEIGHTS / name, repo)
    (tmp_path / "registry.yaml").write_text(REGISTRY)
    words = [
        "extract",
        "--recipe",
        "tiny-sae-tuning",
        "--source",
        "hub-tina",
        "--layer",
        "1",
        "--workspace",
        str(tmp_path),
    ]
    words += [
        word for setting in [*FAST[:3], "sae.mode=pretrained", "sae.origin=sae-tiny"] for word in ("--set", setting)
    ]
    refused = resa_hub(*words, HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path / "hf"))
    assert (
        refused.returncode == 4
        and "made for layers.1.mlp, not for layers.1" in refused.stderr
        and "any_hookpoint" in refused.stderr
    )
    done = resa_hub(
        *words, "--set", "sae.any_hookpoint=true", "--json", HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path / "hf")
    )
    assert done.returncode == 0, done.stderr
    asked = {
        match[1] for exchange in hub.log if (match := re.search(r"sae-tiny/resolve/[^/]+/(.+?)(\?|$)", exchange.path))
    }
    assert asked == {"layers.1.mlp/cfg.json", "layers.1.mlp/sae.safetensors"}
    cached = {
        path.parent.name + "/" + path.name
        for path in (tmp_path / "hf").rglob("*")
        if path.name in ("cfg.json", "sae.safetensors")
    }
    assert cached == {"layers.1.mlp/cfg.json", "layers.1.mlp/sae.safetensors"}
    manifest = verify_folder(Path(json.loads(done.stdout)["folder"]))
    assert manifest.sae and manifest.sae.start and manifest.sae.origin == "sae-tiny"
    start = manifest.sae.start
    assert (
        start.hookpoint == "layers.1.mlp" and start.fvu_here and start.fvu_there and start.fvu_here != start.fvu_there
    )


def test_hub_references(hub: HubServer, many: Path, tmp_path: Path) -> None:
    publish(hub, many)
    publish(hub, many.parent / many.name, "alice/deep")
    deep = hub.storage.tree("alice/deep")
    hub.storage.advance(
        "alice/deep",
        {f"sae/{path}": hub.storage.get(file.sha256) for path, file in deep.items() if "/" in path}
        | dict.fromkeys(deep),
    )
    wanted = [
        ("alice/sae-tiny", "layers.1"),
        ("alice/sae-tiny#layers.1.mlp", "layers.1.mlp"),
        ("alice/sae-tiny", "layers.0"),
        ("alice/nothing", "layers.1"),
        ("alice/deep:sae", "layers.2"),
        ("alice/sae-tiny@none", "layers.1"),
    ]
    command = [sys.executable, "-c", STARTS, *(word for pair in wanted for word in pair)]
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "layers.1 layers.1 ['cfg.json', 'sae.safetensors']",
        "layers.1.mlp layers.1.mlp ['cfg.json', 'sae.safetensors']",
        "DoesNotFit alice/sae-tiny has no SAE of layers.0, only of blocks.2.hook_resid_post, layers.0.mlp, "
        "layers.1, layers.1.mlp",
        "NotFound alice/nothing: no such repository, or it is private",
        "blocks.2.hook_resid_post layers.2 ['cfg.json', 'sae_weights.safetensors']",
        "NotFound alice/sae-tiny@none: the repository has no such revision",
    ]
