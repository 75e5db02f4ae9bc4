"""The remotes with the oldest and the newest client of the Hub that we allow, each in an environment of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import needs
from tests.helpers.commands import HANG, environment

ROOT = Path(__file__).parents[2]
LIGHT = ["click", "msgspec", "pyyaml", "platformdirs", "filelock", "jinja2", "numpy", "safetensors", "pytest", "rich"]
"""What the light half of the package needs; torch and its kin are not imported by the remotes."""


@pytest.mark.slow
@pytest.mark.parametrize("client", ["1.31", "2.4"])
def test_remotes_work_with_the_clients_we_allow(tmp_path: Path, client: str) -> None:
    uv = [str(Path(sys.executable).with_name("uv"))]
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(tmp_path / "venv")], check=True)
    install = [*uv, "pip", "install", "--quiet", "--python", str(python), f"huggingface_hub=={client}.*", *LIGHT]
    if subprocess.run(install, timeout=HANG).returncode:
        needs.missing(f"needs huggingface_hub {client}", "an index of packages that can be reached")
    tests = ["tests/hub/test_hub_remote.py", "tests/hub/test_hub_faults.py"]
    done = subprocess.run(
        [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=ROOT,
        env=environment(PYTHONPATH=None),
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    version = subprocess.run(
        [str(python), "-c", "import huggingface_hub; print(huggingface_hub.__version__)"],
        capture_output=True,
        text=True,
    ).stdout
    assert version.startswith(client + ".")
