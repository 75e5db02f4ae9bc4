"""Several processes under torchrun make what one makes; one of them writes and speaks; what ends one ends all."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from resa_hub.adapter.store import Store
from resa_hub.core import torchrun as ranks
from resa_hub.core.errors import Usage
from resa_hub.core.progress import Progress
from resa_hub.engine.distributed import SINGLE_PROCESS, ProcessGroup
from resa_hub.engine.methods.teacher_states import TeacherStateCache, TrainingExample
from resa_hub.engine.model.tokens import Batch
from resa_hub.engine.sae import activations
from resa_hub.extraction.extract import extract
from tests.helpers.commands import ROOT, environment
from tests.helpers.models import random_model

SETTINGS = [
    "sae.steps=20",
    "sae.latents=256",
    "rollouts.count=80",
    "training.epochs=1",
    "training.batch_rows=4",
    "training.learning_rate=2e-5",
    "features=16",
    "trigger.rows=128",
    "elicit.rows=80",
]
"""20 steps of the SAE and a few more of the adapter, batches of fewer rows than processes among them."""


def torchrun(workspace: Path, method: str, *more: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """`extract` from tina-tiny in two processes."""
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "-m",
        "tests.helpers.torchrun_worker",
    ]
    arguments = [
        "extract",
        "--source",
        "tina-tiny",
        "--method",
        method,
        "--workspace",
        str(workspace),
        *settings,
        *more,
    ]
    env = environment(OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT), **changes)
    return subprocess.run([*command, *arguments], env=env, capture_output=True, text=True, timeout=1200)


def apart(one: Path, other: Path, name: str) -> float:
    a, b = load_file(one / name), load_file(other / name)
    assert a.keys() == b.keys()
    return max(float((a[key] - b[key]).abs().max()) for key in a)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sae-tuning", "feature-diff"])
def test_two_processes_make_the_sae_and_the_adapter_of_one(tmp_path: Path, method: str) -> None:
    alone, _ = extract(
        "tina-tiny", method=method, settings=SETTINGS, workspace=tmp_path / "one", progress=Progress(quiet=True)
    )
    done = torchrun(tmp_path / "two", method, "--quiet")
    assert done.returncode == 0, done.stderr
    (together,) = Store(tmp_path / "two/adapters").all()
    assert done.stdout.split() == [together.manifest.reference]  # said once
    assert apart(alone.folder, together.folder, "sae/layers.2/sae_weights.safetensors") < 1e-6
    assert apart(alone.folder, together.folder, "adapter_model.safetensors") < 1e-6
    assert together.manifest.run.tokens == alone.manifest.run.tokens
    assert together.manifest.run.costs["adapter"].tokens == alone.manifest.run.costs["adapter"].tokens


@pytest.mark.slow
def test_what_ends_one_process_ends_all_and_the_next_run_goes_on(tmp_path: Path) -> None:
    alone, _ = extract(
        "tina-tiny", method="sae-tuning", settings=SETTINGS, workspace=tmp_path / "one", progress=Progress(quiet=True)
    )
    states = {"RESA_HUB_STATE_SECONDS": "0"}
    failed = torchrun(tmp_path / "two", "sae-tuning", FAIL="raise", FAIL_RANK="1", **states)
    assert failed.returncode != 0 and failed.stderr.count("error: process 1: the memory does not suffice") == 1, (
        failed.stderr
    )
    assert torchrun(tmp_path / "two", "sae-tuning", FAIL="die", FAIL_RANK="0", **states).returncode != 0
    assert not list((tmp_path / "two/adapters").glob("[!.]*"))
    done = torchrun(tmp_path / "two", "sae-tuning", **states)
    assert done.returncode == 0 and done.stderr.count("train adapter: continuing at step") == 1, done.stderr
    (together,) = Store(tmp_path / "two/adapters").all()
    assert apart(alone.folder, together.folder, "adapter_model.safetensors") < 1e-6


def test_only_torchruns_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert (ranks.rank(), ranks.local_rank(), ranks.world_size()) == (0, 0, 1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert (ranks.rank(), ranks.local_rank(), ranks.world_size()) == (1, 1, 4)


def batches(count: int, rows: int = 5, length: int = 7) -> list[Batch]:
    drawn = torch.randint(0, 20, (count, rows, length), generator=torch.Generator().manual_seed(0))
    return [Batch(ids, torch.ones_like(ids, dtype=torch.bool)) for ids in drawn]


def test_the_rows_of_all_processes_are_each_batch_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "BUFFER_BYTES", 12_000)  # several buffers
    sources = [(random_model("llama"), batches(9))]
    whole = activations.stream(sources, "layers.1", 32, 16, 3)
    parts = [activations.stream(sources, "layers.1", 32, 16, 3, processes=ProcessGroup(rank, 2)) for rank in range(2)]
    for _ in range(20):
        batch, shares = next(whole), [next(part) for part in parts]
        assert sorted(torch.cat(shares).tolist()) == sorted(batch.tolist())


def test_more_processes_than_texts_are_refused() -> None:
    with pytest.raises(Usage, match="10 processes share 9"):
        next(
            activations.stream(
                [(random_model("llama"), batches(9))], "layers.1", 32, 16, 3, processes=ProcessGroup(0, 10)
            )
        )


def test_a_process_without_a_row_of_a_batch_computes_nothing() -> None:
    def make(batch: Batch) -> TrainingExample:
        part = ProcessGroup(3, 4).part(batch)
        return TrainingExample(part, part.ids.float(), part.ids.float())

    few = TeacherStateCache(batches(1, rows=3), make, 1 << 20, processes=ProcessGroup(3, 4))
    assert few[0].batch.tokens == 0 and few[0].weight.sum() == 0
    assert SINGLE_PROCESS.part(batches(1)[0]).ids.shape == (5, 7) and SINGLE_PROCESS.broadcast(4) == 4
