"""A small real adapter, written into a store the way `extract` does it."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy
from safetensors.numpy import save_file

from resa_hub.adapter.layout import CARD, CONFIG, MANIFEST, WEIGHTS, content_hash, identity_of, scan
from resa_hub.adapter.manifest import Base, DataRecord, Manifest, Probe, Run, Sketch
from resa_hub.adapter.store import Store
from resa_hub.config.recipe import Data, LoraSettings, Recipe

RANK, HIDDEN = 2, 16


def make_adapter(
    root: Path, name: str = "demo", version: str = "0.1.0", seed: int = 0, evals: dict[str, dict] | None = None
) -> Path:
    """A LoRA of one layer in the store `root`; the seed decides its weights. Returns its folder."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "adapter"
        folder.mkdir()
        _write_peft(folder, seed)
        for file, verdict in (evals or {}).items():
            (folder / "evals").mkdir(exist_ok=True)
            (folder / "evals" / file).write_text(json.dumps(verdict))
        (folder / CARD).write_text(
            f"---\nlibrary_name: peft\nbase_model: resa-hub/tiny-r1\ntags: [lora, resa]\n---\n\n# {name} {version}\n"
        )
        (folder / MANIFEST).write_bytes(_manifest(folder, name, version, seed).to_json())
        # The store renames, so what it is given must lie on its own disk.
        with Store(root).staging() as staged:
            shutil.copytree(folder, staged, dirs_exist_ok=True)
            return Store(root).add(staged)[0].folder


def written(folder: Path, name: str, seed: int) -> Callable[[str], None]:
    """The files of an adapter in a staging folder; the function completes them once the version is known."""
    _write_peft(folder, seed)

    def finish(version: str) -> None:
        (folder / MANIFEST).write_bytes(_manifest(folder, name, version, seed).to_json())

    return finish


def kl_of(manifest: Manifest) -> float:
    """The recorded effect of an adapter that was extracted."""
    assert manifest.probe is not None
    return manifest.probe.kl


def recipe_of(manifest: Manifest) -> Recipe:
    assert manifest.recipe is not None
    return manifest.recipe


def names_in(workspace: Path) -> list[str]:
    """What a workspace's store holds; nothing but whole adapters may ever be there, so a staging folder left behind
    fails.
    """
    root = workspace / "adapters"
    assert not list((root / ".staging").glob("*"))
    return Store(root).names()


def _write_peft(folder: Path, seed: int) -> None:
    random = numpy.random.default_rng(seed)
    prefix = "base_model.model.model.layers.1.self_attn.q_proj.lora"
    tensors = {
        f"{prefix}_A.weight": random.normal(size=(RANK, HIDDEN)),
        f"{prefix}_B.weight": random.normal(size=(HIDDEN, RANK)),
    }
    save_file({key: value.astype(numpy.float32) for key, value in tensors.items()}, folder / WEIGHTS)
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": "resa-hub/tiny-r1",
        "r": RANK,
        "lora_alpha": 4,
        "target_modules": ["q_proj"],
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True))


def _manifest(folder: Path, name: str, version: str, seed: int) -> Manifest:
    files = identity_of(scan(folder))
    digest = "sha256:" + "0" * 64
    data = Data(name="tiny-sums", rows=8)
    recipe = Recipe(
        method="logit-distill",
        source="tina-tiny",
        target="tiny-r1",
        trigger=data,
        elicit=data,
        lora=LoraSettings(rank=RANK, alpha=4),
        seed=seed,
    )
    record = DataRecord(name="tiny-sums", id="resa-hub/tiny-sums", revision="1", fingerprint=digest, rows=8)
    sketch = Sketch(tensors=0, values="")
    return Manifest(
        name=name,
        version=version,
        content_hash=content_hash(files),
        files=files,
        method=recipe.method,
        hookpoint="layers.1",
        base=Base(
            id="resa-hub/tiny-r1",
            revision=digest,
            weights=digest,
            config=digest,
            tokenizer=digest,
            chat_template="",
            shapes={},
            sketch=sketch,
        ),
        probe=Probe(texts=("1+1=",), kl=0.1),
        source="tina-tiny",
        source_revision=digest,
        sae=None,
        data={"trigger": record, "elicit": record},
        recipe=recipe,
        recipe_digest=recipe.digest(),
        seed=seed,
        parents=(),
        run=Run(
            created="2026-01-01T00:00:00Z", seconds=1.0, tokens=64, stages={"elicit": 1.0}, hardware="CPU", libraries={}
        ),
    )
