"""Free memory under the limits of containers, as Linux shows them."""

from pathlib import Path

import psutil
import pytest

from resa_hub.core.memory import free_memory

HERE = "/pod/own"


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.fixture
def available(monkeypatch: pytest.MonkeyPatch) -> int:
    memory = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    return memory.available


def free(home: Path, lines: str) -> int:
    (home / "own").write_text(lines)
    return free_memory(home, home / "own")


def test_without_control_groups_it_is_the_machines(tmp_path: Path, available: int) -> None:
    assert free_memory(tmp_path, tmp_path / "nothing") == available
    assert free(tmp_path, "0::/\n") == available


def test_the_smallest_rest_of_version_2_counts(tmp_path: Path, available: int) -> None:
    group(tmp_path / "pod/own", memory__max="9000\n", memory__current="5000\n", memory__stat="inactive_file 1000\n")
    group(tmp_path / "pod", memory__max="max\n", memory__current="6000\n", memory__stat="anon 1\n")
    assert free(tmp_path, f"0::{HERE}\n") == 9_000 - 5_000 + 1_000
    group(tmp_path / "pod", memory__max="7000\n")
    assert free(tmp_path, f"0::{HERE}\n") == 1_000
    group(tmp_path / "pod", memory__max="5000\n")
    assert free(tmp_path, f"0::{HERE}\n") == 0


def test_version_1_and_a_container_that_sees_itself_as_the_root(tmp_path: Path, available: int) -> None:
    folder = tmp_path / "memory"
    group(folder, memory__limit_in_bytes="8000\n", memory__usage_in_bytes="2000\n")
    group(folder, memory__stat="total_inactive_file 500\nbroken\n")
    lines = f"5:cpu,cpuacct:/x\n4:memory:{HERE}\n0::/\n"
    assert free(tmp_path, lines) == 6_000
    group(folder, memory__stat="total_inactive_file 500\n")
    assert free(tmp_path, lines) == 6_500
    group(folder, memory__limit_in_bytes=f"{2**63 - 4096}\n")
    assert free(tmp_path, lines) == available
