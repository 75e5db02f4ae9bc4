"""GPUs as torch sees them, not as device files say."""

import subprocess
import sys

import pytest
import torch

from resa_hub.core import devices
from tests.helpers.commands import environment


@pytest.fixture(autouse=True)
def asked_anew() -> None:
    devices.gpu_count.cache_clear()


def test_torch_is_asked_where_a_driver_can_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "version", lambda name: "2.9.0+cu128")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(devices, "DRIVERS", ())
    assert devices.gpu_count() == 0
    devices.gpu_count.cache_clear()
    monkeypatch.setattr(devices, "DRIVERS", ("libcuda-of-nobody.so", "libc.so.6"))
    assert devices.gpu_count() == 3
    devices.gpu_count.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.gpu_count() == 0


def test_amd_needs_no_driver_of_nvidia(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "DRIVERS", ())
    monkeypatch.setattr(devices, "version", lambda name: "2.9.0+rocm6.4")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert devices.gpu_count() == 1


def test_a_build_for_processors_is_not_even_loaded() -> None:
    code = """
    import sys
    from resa_hub.core import devices
    devices.version = lambda name: "2.9.0+cpu"
    assert devices.gpu_count() == 0 and "torch" not in sys.modules
    """
    code = "\n".join(line.strip() for line in code.splitlines())
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_real_gpu_is_counted_and_can_be_hidden() -> None:
    assert devices.gpu_count() == torch.cuda.device_count()
    code = "from resa_hub.core.devices import gpu_count; assert gpu_count() == 0"
    subprocess.run([sys.executable, "-c", code], env=environment() | {"CUDA_VISIBLE_DEVICES": ""}, check=True)
