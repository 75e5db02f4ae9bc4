"""What samples are generated with: what is refused, and that no worker runs without its device in silence."""

import os
import queue
from pathlib import Path
from typing import Any

import pytest

from resa_hub.core.errors import RunFailed, Usage
from resa_hub.evaluation.sampling import engines as module
from resa_hub.evaluation.sampling import workers
from resa_hub.evaluation.sampling.engines import Engines


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine with so many GPUs, as far as is asked here."""

    def pretend(count: int) -> None:
        for place in (module, workers):
            monkeypatch.setattr(place, "gpu_count", lambda: count)

    return pretend


@pytest.mark.parametrize(
    ("engines", "here", "message", "hint"),
    [
        (Engines("transformers", workers=4), 2, "4 workers need 4 GPUs, and torch sees 2", "--workers 2"),
        (Engines("transformers", gpu_memory=0.5), 1, "--gpu-memory has no effect", "--engine vllm"),
        (Engines("transformers", tolerance=0.5), 0, "--tolerance has no effect", "--engine vllm"),
        (Engines("vllm", gpu_memory=90), 0, "--gpu-memory is 90", "leave it out"),
        (Engines("vllm", tolerance=0), 0, "--tolerance is 0", "leave it out"),
    ],
)
def test_refused(gpus: Any, engines: Engines, here: int, message: str, hint: str) -> None:
    gpus(here)
    with pytest.raises(Usage, match=message) as caught:
        engines.check()
    assert hint in caught.value.hint


def test_tensor_parallel_counts_too(gpus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: True)
    gpus(3)
    with pytest.raises(Usage, match="2 workers on 2 GPUs each need 4 GPUs") as caught:
        Engines("vllm", workers=2, tensor_parallel=2).check()
    assert caught.value.hint == "--workers 1"
    with pytest.raises(Usage) as caught:
        Engines("vllm", tensor_parallel=8).check()
    assert caught.value.hint == "--tensor-parallel 3 --workers 1"
    gpus(4)
    Engines("vllm", workers=2, tensor_parallel=2, gpu_memory=0.5, tolerance=0.3).check()


def test_workers_share_a_processor_where_no_gpu_is(gpus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(0)
    Engines("transformers", workers=2).check()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with workers._environment(1, 2, 1):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ""  # GPUs that were hidden stay so


def test_each_worker_is_given_gpus_of_its_own(gpus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with workers._environment(1, 2, 2):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,3"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    with workers._environment(1, 2, 1):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-b"


def test_a_worker_that_does_not_see_its_gpu_ends_the_run(
    gpus: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gpus(0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    said: queue.Queue[Any] = queue.Queue()
    nothing: Any = None
    workers._worker(nothing, nothing, tmp_path, said, 1, True)
    error = said.get()
    assert isinstance(error, RunFailed) and "CUDA_VISIBLE_DEVICES=7" in error.message
