"""Several processes under torchrun make what one makes; one of them writes and speaks; what ends one ends all."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from resa_hub.adapter.store import Store
from resa_hub.core import torchrun as ranks
from resa_hub.core.errors import HubError, Network, NoEffect, RunFailed, Usage
from resa_hub.core.progress import Progress
from resa_hub.engine import distributed
from resa_hub.engine.distributed import SINGLE_PROCESS, ProcessGroup
from resa_hub.engine.methods.teacher_states import TeacherStateCache, TrainingExample
from resa_hub.engine.model.tokens import Batch
from resa_hub.engine.sae import activations
from resa_hub.extraction.extract import extract
from tests.helpers.commands import HANG, ROOT, environment
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
    unused = ("trigger.",) if method == "feature-diff" else ("rollouts.", "features=")
    settings = [part for setting in SETTINGS if not setting.startswith(unused) for part in ("--set", setting)]
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
    return subprocess.run([*command, *arguments], env=env, capture_output=True, text=True, timeout=HANG)


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
    (together,) = Store(tmp_path / "two/adapters").readable()[0]
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
    (together,) = Store(tmp_path / "two/adapters").readable()[0]
    assert apart(alone.folder, together.folder, "adapter_model.safetensors") < 1e-6


class FakeStore(dict):
    """torchrun's store: text or bytes go in, bytes come out."""

    def set(self, key: str, value: str | bytes) -> None:
        self[key] = value.encode() if isinstance(value, str) else value

    def check(self, keys: list[str]) -> bool:
        return all(key in self for key in keys)


def first_error(store: FakeStore, rank: int, error: Exception) -> Exception:
    """What process `rank` of two raises when `error` ends it."""
    return distributed._first_error(store, ProcessGroup(rank, 2), error)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time passes."""
    monkeypatch.setattr(distributed, "ERROR_TIMEOUT_S", 0.0)
    monkeypatch.setattr(distributed.time, "sleep", lambda seconds: None)


LOST = RuntimeError("Connection closed by peer [127.0.0.1]:1234")


@pytest.mark.parametrize(
    ("error", "kind", "message", "hint"),
    [
        (NoEffect("no logit changes", "raise it"), NoEffect, "process 1: no logit changes", "raise it"),
        (Network("broken \udc80 'ä'\nsecond line"), Network, "process 1: broken \udc80 'ä'\nsecond line", ""),
        (HubError("plain", "hint"), HubError, "process 1: plain", "hint"),
        (ValueError("one\ntwo"), RunFailed, "process 1: ValueError: one", ""),
        (KeyError(3), RunFailed, "process 1: KeyError: 3", ""),
        (AssertionError(), RunFailed, "process 1: AssertionError: ", ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_the_first_process_raises_the_error_of_the_one_that_failed(
    at_once: None, error: Exception, kind: type[HubError], message: str, hint: str
) -> None:
    store = FakeStore()
    assert first_error(store, 1, error) is error
    raised = first_error(store, 0, LOST)
    assert type(raised) is kind and isinstance(raised, HubError)
    assert (raised.message, raised.hint, raised.exit_code) == (message, hint, kind.exit_code)
    assert store.check(["heard"])


def test_an_error_of_the_first_process_is_raised_as_it_is_and_a_lost_process_is_named(at_once: None) -> None:
    error = Usage("wrong")
    assert first_error(FakeStore(), 0, error) is error
    for rank in range(2):
        raised = first_error(FakeStore(), rank, LOST)
        assert isinstance(raised, RunFailed) and raised.message == "another process of this run was lost"


GARBAGE = [b"", b"\x80\x04.", b"[]", b"null", b'"text"', b"{}", b'{"class": "NoEffect"}']
GARBAGE += [
    b'{"class": "%s", "message": "m", "hint": "h"}' % name for name in (b"did_you_mean", b"os", b"__doc__", b"")
]
GARBAGE += [b'{"class": 3, "message": "m", "hint": "h"}', b'{"class": "Usage", "message": 1, "hint": "h"}']


@pytest.mark.parametrize("data", GARBAGE)
def test_what_no_process_wrote_is_a_failed_run_and_nothing_else(at_once: None, data: bytes) -> None:
    store = FakeStore()
    store.set("error-1", data)
    raised = first_error(store, 0, LOST)
    assert type(raised) is RunFailed and raised.message == "process 1: it failed, and its error cannot be read"


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
