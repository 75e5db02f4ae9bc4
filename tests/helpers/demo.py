"""The demo, run once for all tests: from the wheel, in an environment that holds nothing of this repository."""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.helpers.commands import HANG, ROOT, children_cpu, environment


class Installed(NamedTuple):
    """resa-hub as somebody has it who installed the wheel."""

    wheel: Path
    python: Path
    folder: Path
    """Empty, and the current folder of all that is run here."""

    def run(self, *arguments: str, timeout: float = HANG) -> subprocess.CompletedProcess[str]:
        """The installed `resa-hub` command."""
        return self.start(str(self.python.parent / "resa-hub"), *arguments, timeout=timeout)

    def start(self, *command: str, timeout: float = HANG) -> subprocess.CompletedProcess[str]:
        env = environment(
            PYTHONPATH=None, XDG_CONFIG_HOME=str(self.folder / "config"), HF_ENDPOINT="http://127.0.0.1:9"
        )
        return subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=timeout)


class Demonstration(NamedTuple):
    workspace: Path
    output: str
    """What it printed on stdout."""
    errors: str
    cpu: float
    """Seconds of CPU that it took."""


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel, built and installed into a new environment beside the dependencies of this one (a whole installation
    takes a minute).
    """
    root = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(root / "dist"), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wheel = next((root / "dist").glob("*.whl"))
    venv.create(root / "env", with_pip=False, symlinks=True)
    python = root / "env/bin/python"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(python),
            "install",
            "--no-deps",
            "--no-index",
            "--quiet",
            str(wheel),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    # A line of a .pth file is a folder whose own .pth files, the editable installation among them, are not read.
    site = next((root / "env/lib").glob("python3*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    (root / "elsewhere").mkdir()
    return Installed(wheel, python, root / "elsewhere")


@pytest.fixture(scope="session")
def demonstration(installed: Installed) -> Demonstration:
    """`resa-hub demo` in an empty workspace."""
    before = children_cpu()
    done = installed.run("demo", "--workspace", "demo")
    assert done.returncode == 0, done.stderr
    return Demonstration(installed.folder / "demo", done.stdout, done.stderr, children_cpu() - before)
