"""The SAE that stage I starts from: sparsify's format to the digit and back, SAELens', where it is found, what is refused, and what the manifest keeps."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sae_lens import SAE
from safetensors.torch import load_file, save_file
from sparsify import SparseCoder, SparseCoderConfig
from torch import Tensor

from resa_hub import saes
from resa_hub.adapter.store import Adapter
from resa_hub.adapter.verify import verify
from resa_hub.engine.sae import sparsify
from resa_hub.engine.sae.codes import encode, reconstruct
from resa_hub.engine.sae.files import load, new, save
from resa_hub.engine.sae.start import begin
from resa_hub.engine.sae.topk import SparseTopKTrainingSAE
from resa_hub.engine.text import Batch
from resa_hub.errors import DoesNotFit, HubError, NotFound, Usage
from resa_hub.extract import extract
from resa_hub.progress import Progress
from resa_hub.recipe import Recipe, SaeSettings, override, structure
from resa_hub.registry import Registry, plain
from resa_hub.sources import SaeFiles
from tests.commands import resa_hub
from tests.hub.fixtures import running_hub  # noqa: F401  (a fixture)
from tests.hub.server import HubServer
from tests.models import random_ids, random_model
from tests.models import tiny as located

WIDTH, LATENTS, K = 64, 96, 6
"""WIDTH is that of the embedded models."""
QUIET = Progress(quiet=True)
X = torch.randn(200, WIDTH, generator=torch.Generator().manual_seed(0))
FAST = ["trigger.rows=64", "elicit.rows=64", "training.epochs=1", "sae.steps=4", "sae.batch_tokens=64"]


def theirs(seed: int = 0, width: int = WIDTH, **changes: object) -> SparseCoder:
    """A coder of eai-sparsify, all its parameters away from zero."""
    torch.manual_seed(seed)
    coder = SparseCoder(width, SparseCoderConfig(**{"num_latents": LATENTS, "k": K} | changes))  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        coder.encoder.bias.normal_(0, 0.3)
        coder.b_dec.normal_(0, 0.5)
    return coder


def written(folder: Path, coder: SparseCoder | None = None, **changes: object) -> Path:
    """Its folder, as sparsify writes it; `changes` of its config, None takes a key out."""
    (coder or theirs()).save_to_disk(folder)
    config = json.loads((folder / "cfg.json").read_text()) | changes
    (folder / "cfg.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return folder


def ours(seed: int = 0, applied: bool = True) -> SparseTopKTrainingSAE:
    sae = new(WIDTH, SaeSettings(latents=LATENTS, k=K), "layers.2", seed)
    sae.cfg.apply_b_dec_to_input = applied
    with torch.no_grad():
        sae.b_enc.normal_(0, 0.3, generator=torch.Generator().manual_seed(seed))
        sae.b_dec.normal_(0, 0.5, generator=torch.Generator().manual_seed(seed + 1))
    return sae


@torch.no_grad()
def agree(sae: SparseTopKTrainingSAE, coder: SparseCoder) -> None:
    """Same latents and same reconstruction, to 1e-6 of its size."""
    values, indices = encode(sae, X)
    found = coder.encode(X)
    dense = [torch.zeros(len(X), LATENTS).scatter(-1, i, v) for v, i in ((values, indices), (found.top_acts, found.top_indices))]
    assert torch.allclose(*dense, atol=1e-6, rtol=1e-6) and (dense[0] > 0).sum(-1).float().mean() > K / 2
    assert torch.allclose(reconstruct(sae, X), coder(X).sae_out, atol=2e-6, rtol=1e-6)


OLD = {"activation": None, "skip_connection": None, "transcode": None}


@pytest.mark.parametrize("layout", [{}, OLD, OLD | {"signed": False, "num_latents": 0, "expansion_factor": 2}], ids=["now", "old", "expansion factor"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_we_read_what_sparsify_writes(tmp_path: Path, layout: dict, dtype: torch.dtype) -> None:
    coder = theirs(num_latents=layout.get("num_latents", LATENTS), expansion_factor=2).to(dtype)
    written(tmp_path, coder, **layout)
    found = sparsify.load(tmp_path, WIDTH, "layers.2.mlp")
    assert found.cfg.apply_b_dec_to_input and found.cfg.metadata.hf_hook_name == "model.layers.2.mlp"
    if "expansion_factor" in layout:
        assert found.cfg.d_sae == 2 * WIDTH
        return
    agree(found, coder.float())


@pytest.mark.parametrize("applied", [True, False])
def test_sparsify_reads_what_we_write(tmp_path: Path, applied: bool) -> None:
    sae = ours(applied=applied)
    sparsify.save(sae, tmp_path)
    agree(sae, SparseCoder.load_from_disk(tmp_path))


def test_there_and_back_is_the_same_bytes(tmp_path: Path) -> None:
    first = written(tmp_path / "a")
    sparsify.save(sparsify.load(first, WIDTH, "layers.2"), tmp_path / "b")
    sparsify.save(sparsify.load(tmp_path / "b", WIDTH, "layers.2"), tmp_path / "c")
    weights = [load_file(tmp_path / name / "sae.safetensors") for name in "abc"]
    assert weights[0].keys() == weights[1].keys() and all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert all((tmp_path / "b" / name).read_bytes() == (tmp_path / "c" / name).read_bytes() for name in ("cfg.json", "sae.safetensors"))


def test_sparsify_to_saelens_and_back(tmp_path: Path) -> None:
    coder = theirs()
    save(sparsify.load(written(tmp_path / "a", coder), WIDTH, "layers.1"), tmp_path / "b", "some/model")
    with torch.no_grad():
        assert torch.allclose(SAE.load_from_disk(tmp_path / "b")(X), coder(X).sae_out, atol=2e-6)
    agree(load(tmp_path / "b", WIDTH, "layers.1"), coder)


def test_saelens_scaling_by_decoder_norm_is_folded_in(tmp_path: Path) -> None:
    sae = ours()
    with torch.no_grad():
        sae.W_dec.copy_(torch.linspace(0.5, 2, LATENTS)[:, None] * sae.W_dec)
    save(sae, tmp_path, "some/model")
    change(tmp_path / "cfg.json", rescale_acts_by_decoder_norm=True)
    with torch.no_grad():
        assert torch.allclose(reconstruct(load(tmp_path, WIDTH, "layers.2"), X), SAE.load_from_disk(tmp_path)(X), atol=1e-5)
    change(tmp_path / "cfg.json", normalize_activations="layer_norm")
    with pytest.raises(DoesNotFit, match="normalize_activations layer_norm"):
        load(tmp_path, WIDTH, "layers.2")


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def weights(folder: Path, edit: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / "sae.safetensors")
    edit(tensors)
    save_file(tensors, folder / "sae.safetensors")


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
    "cut": (lambda f: (written(f) / "sae.safetensors").write_bytes((f / "sae.safetensors").read_bytes()[:-8]), "no SAE in sparsify's format"),
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
        sparsify.load(tmp_path, WIDTH, "layers.2")
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
        sae, _ = begin(SaeFiles("x", folder, "sparsify", "layers.1"), 32, "layers.1", sources, QUIET)
        assert sae.unit_decoder == unit
        sparsify.save(sae, tmp_path / "out")
        assert json.loads((tmp_path / "out/cfg.json").read_text())["normalize_decoder"] == unit


def start(asked: Recipe) -> SaeFiles:
    """The only one."""
    (found,) = saes.starts(asked, Registry()).values()
    return found


def recipe(origin: str | None, hookpoint: str = "layers.2", mode: str = "pretrained", **changes: object) -> Recipe:
    said = [f"{key}={value}" for key, value in ({"sae.mode": mode, "hookpoint": hookpoint} | changes).items()]
    return structure(override(plain(Registry().recipe("tiny-sae-tuning")), [*said, *([f"sae.origin={origin}"] if origin else [])]), Recipe, "test")


@pytest.fixture(name="many", scope="module")
def folder_of_many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each hookpoint, in both formats."""
    root = tmp_path_factory.mktemp("many")
    for seed, name in enumerate(("layers.0.mlp", "layers.1", "layers.1.mlp")):
        written(root / name, theirs(seed))
    save(ours(), root / "blocks.2.hook_resid_post", "tina-tiny")
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
def test_the_folder_of_the_hookpoint_is_taken(many: Path, tail: str, hookpoint: str, changes: dict, folder: str, made_for: str) -> None:
    found = start(recipe(f"{many}{tail}", hookpoint, **changes))
    assert (found.folder, found.hookpoint, found.format) == (many / folder, made_for, "saelens" if folder.startswith("blocks") else "sparsify")


def test_a_folder_that_says_nothing_is_taken_at_its_word(tmp_path: Path) -> None:
    written(tmp_path / "mine")
    assert start(recipe(f"{tmp_path}/mine")).hookpoint is None
    assert start(recipe(f"{tmp_path}/mine#layers.2")).hookpoint == "layers.2"
    with pytest.raises(DoesNotFit, match=r"made for layers.1, not for layers.2"):
        saes.starts(recipe(f"{tmp_path}/mine#layers.1"), Registry())


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
        saes.starts(recipe(f"{many}{tail}", hookpoint), Registry())
    assert caught.value.hint


def test_refusals_of_base_damage_and_nothing(tmp_path: Path) -> None:
    save(ours(), tmp_path / "sae", "someone/else")
    with pytest.raises(DoesNotFit, match="made for someone/else, not for tina-tiny"):
        saes.starts(recipe(f"{tmp_path}/sae"), Registry())
    with pytest.raises(DoesNotFit, match=r"sae-r1-65k was made for r1-distill-1\.5b"):
        saes.starts(recipe("sae-r1-65k"), Registry())
    (tmp_path / "sae/cfg.json").write_text("{")
    with pytest.raises(DoesNotFit, match="damaged"):
        saes.starts(recipe(f"{tmp_path}/sae"), Registry())
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound, match="holds no SAE"):
        saes.starts(recipe(f"{tmp_path}/empty"), Registry())
    with pytest.raises(Usage, match="needs an SAE to start from"):
        saes.starts(recipe(None), Registry())
    assert saes.starts(recipe(None, mode="scratch"), Registry()) == {}
    assert saes.starts(recipe(None, method="logit-distill"), Registry()) == {}


def test_the_paper_needs_no_flag_and_the_reference_code_has_it() -> None:
    """The public SAEs are of MLP outputs; the reference code splices them in at the layer's output."""
    code, paper = (Registry().recipe(name) for name in ("resa-still-v1", "resa-still-v1-paper"))
    assert (code.hookpoint, code.sae.any_hookpoint) == ("layers.12", True)
    assert (paper.hookpoint, paper.sae.any_hookpoint) == ("layers.12.mlp", False)


def made_with(workspace: Path, *settings: str, method: str = "sae-tuning") -> Adapter:
    said = FAST + (["rollouts.count=32", "features=8"] if method == "feature-diff" else [])
    return extract("tina-tiny", method=method, workspace=workspace, settings=said + list(settings), progress=QUIET)[0]


def test_pretrained_keeps_finetuned_moves_and_the_manifest_tells(tmp_path: Path) -> None:
    coder = theirs()
    folder = written(tmp_path / "layers.2", coder)
    origin = f"sae.origin={tmp_path}"
    kept, moved = (made_with(tmp_path / "home", origin, f"sae.mode={mode}") for mode in ("pretrained", "finetuned"))
    for adapter in (kept, moved):
        manifest = verify(adapter.folder)
        assert manifest.sae and manifest.sae.start
        assert (manifest.sae.origin, manifest.sae.latents, manifest.sae.k) == (str(tmp_path), LATENTS, K)  # not the recipe's 1,024 and 16
        start = manifest.sae.start
        assert (start.format, start.hookpoint, start.fvu_there) == ("sparsify", "layers.2", None) and start.fvu_here
        assert start.digest == SaeFiles("", folder, "sparsify", None).digest
    assert (start := kept.manifest.sae and kept.manifest.sae.start) and start.fvu_here == pytest.approx(kept.manifest.sae.quality["fvu_without_first"])  # pyright: ignore[reportOptionalMemberAccess]
    agree(load(kept.folder / "sae/layers.2", WIDTH, "layers.2"), coder)
    tuned = load(moved.folder / "sae/layers.2", WIDTH, "layers.2")
    assert tuned.cfg.apply_b_dec_to_input and 0 < (tuned.W_dec - torch.as_tensor(coder.W_dec)).abs().max() < 0.1
    with torch.no_grad():
        assert torch.allclose(SAE.load_from_disk(moved.folder / "sae/layers.2")(X), reconstruct(tuned, X), atol=1e-5)
    sparsify.save(tuned, tmp_path / "back")
    agree(tuned, SparseCoder.load_from_disk(tmp_path / "back"))
    # Other bytes under the same name are another input.
    written(folder, theirs(seed=1))
    again = made_with(tmp_path / "home", origin, "sae.mode=pretrained")
    assert again.manifest.recipe == kept.manifest.recipe and again.manifest.recipe_digest != kept.manifest.recipe_digest
    assert again.manifest.content_hash != kept.manifest.content_hash


def test_an_sae_of_an_adapter_starts_another_extraction(made: Adapter, tmp_path: Path) -> None:
    adapter = made_with(tmp_path, f"sae.origin={made.folder}/sae", "sae.mode=pretrained", method="feature-diff")
    assert adapter.manifest.sae and made.manifest.sae and adapter.manifest.sae.start
    assert adapter.manifest.sae.start.format == "saelens" and adapter.manifest.sae.latents == made.manifest.sae.latents == 256
    for name in ("cfg.json", "sae_weights.safetensors"):
        assert (adapter.folder / "sae/layers.2" / name).read_bytes() == (made.folder / "sae/layers.2" / name).read_bytes()


def test_each_of_several_hookpoints_starts_from_its_own(many: Path) -> None:
    asked = recipe(str(many), method="feature-diff", hookpoints="[layers.1, layers.2]")
    assert {at: found.folder.name for at, found in saes.starts(asked, Registry()).items()} == {"layers.1": "layers.1", "layers.2": "blocks.2.hook_resid_post"}
    with pytest.raises(Usage, match="settled"):
        saes.starts(recipe(str(many), "auto", method="feature-diff"), Registry())


REGISTRY = """
models:
  hub-r1: {id: alice/tiny-r1}
  hub-tina: {base: hub-r1, adapter: {id: alice/tina}}
saes:
  sae-tiny: {id: alice/sae-tiny, format: sparsify, base: hub-r1, hookpoints: "layers.{N}.mlp", latents: 96, k: 6}
"""
STARTS = """
import sys
from resa_hub import saes
from resa_hub.errors import HubError
from resa_hub.plan import plan
from resa_hub.registry import Registry
for origin, hookpoint in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        settings = ["sae.mode=pretrained", f"sae.origin={origin}", f"hookpoint={hookpoint}"]
        (found,) = saes.starts(plan("tina-tiny", settings=settings, registry=Registry()).recipe, Registry()).values()
        print(found.folder.name, found.hookpoint, sorted(p.name for p in found.folder.iterdir()))
    except HubError as error:
        print(type(error).__name__, error.message)
"""


def publish(hub: HubServer, folder: Path, repo: str = "alice/sae-tiny") -> None:
    hub.storage.create(repo, repo.partition("/")[0], private=False)
    hub.storage.advance(repo, {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()})


def test_from_the_hub_one_folder_is_fetched_and_the_mismatch_is_told(hub: HubServer, many: Path, tmp_path: Path) -> None:
    """The whole way through the command line and over HTTP, models included: an MLP SAE at the layer's output, as the reference code does it."""
    publish(hub, many)
    for name, repo in (("tiny-r1", "alice/tiny-r1"), ("tina-tiny", "alice/tina")):
        publish(hub, located(name).folder, repo)
    (tmp_path / "registry.yaml").write_text(REGISTRY)
    words = ["extract", "--recipe", "tiny-sae-tuning", "--source", "hub-tina", "--layer", "1", "--workspace", str(tmp_path)]
    words += [word for setting in [*FAST, "sae.mode=pretrained", "sae.origin=sae-tiny"] for word in ("--set", setting)]
    refused = resa_hub(*words, HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path / "hf"))
    assert refused.returncode == 4 and "made for layers.1.mlp, not for layers.1" in refused.stderr and "any_hookpoint" in refused.stderr
    done = resa_hub(*words, "--set", "sae.any_hookpoint=true", "--json", HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path / "hf"))
    assert done.returncode == 0, done.stderr
    asked = {match[1] for exchange in hub.log if (match := re.search(r"sae-tiny/resolve/[^/]+/(.+?)(\?|$)", exchange.path))}
    assert asked == {"layers.1.mlp/cfg.json", "layers.1.mlp/sae.safetensors"}
    cached = {path.parent.name + "/" + path.name for path in (tmp_path / "hf").rglob("*") if path.name in ("cfg.json", "sae.safetensors")}
    assert cached == {"layers.1.mlp/cfg.json", "layers.1.mlp/sae.safetensors"}
    manifest = verify(Path(json.loads(done.stdout)["folder"]))
    assert manifest.sae and manifest.sae.start and manifest.sae.origin == "sae-tiny"
    start = manifest.sae.start
    assert start.hookpoint == "layers.1.mlp" and start.fvu_here and start.fvu_there and start.fvu_here != start.fvu_there


def test_hub_references(hub: HubServer, many: Path, tmp_path: Path) -> None:
    publish(hub, many)
    publish(hub, many.parent / many.name, "alice/deep")
    deep = hub.storage.tree("alice/deep")
    hub.storage.advance("alice/deep", {f"sae/{path}": hub.storage.get(file.sha256) for path, file in deep.items() if "/" in path} | dict.fromkeys(deep))
    wanted = [
        ("alice/sae-tiny", "layers.1"), ("alice/sae-tiny#layers.1.mlp", "layers.1.mlp"), ("alice/sae-tiny", "layers.0"), ("alice/nothing", "layers.1"),
        ("alice/deep:sae", "layers.2"), ("alice/sae-tiny@none", "layers.1"),
    ]  # fmt: skip
    command = [sys.executable, "-c", STARTS, *(word for pair in wanted for word in pair)]
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "layers.1 layers.1 ['cfg.json', 'sae.safetensors']",
        "layers.1.mlp layers.1.mlp ['cfg.json', 'sae.safetensors']",
        "DoesNotFit alice/sae-tiny has no SAE of layers.0, only of blocks.2.hook_resid_post, layers.0.mlp, layers.1, layers.1.mlp",
        "NotFound alice/nothing: no such repository, or it is private",
        "blocks.2.hook_resid_post layers.2 ['cfg.json', 'sae_weights.safetensors']",
        "NotFound alice/sae-tiny@none: the repository has no such revision",
    ]
