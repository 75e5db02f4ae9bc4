"""What somebody gets who installs the wheel: the package, its models and its names, and nothing else."""

import zipfile

import pytest

from resa_hub.data import tiny
from tests.helpers.commands import ROOT
from tests.helpers.demo import Demonstration, Installed

pytestmark = pytest.mark.slow


def test_wheel_holds_the_package_the_models_and_the_names(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as archive:
        names = set(archive.namelist())
        assert archive.read("resa_hub/registry.yaml") == (ROOT / "registry.yaml").read_bytes()
    weights = {path.relative_to(ROOT).as_posix() for path in tiny.WEIGHTS.rglob("*") if path.is_file()}
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "resa_hub").rglob("*.py")}
    assert any(name.endswith("model.safetensors") for name in weights)
    assert weights | modules <= names
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"resa_hub"}
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert [name for name in names if "test" in name or name.endswith((".pyc", ".pt", ".bin"))] == []
    assert installed.wheel.stat().st_size < 10e6


def test_the_wheels_own_package_is_run(installed: Installed) -> None:
    code = "import resa_hub, resa_hub.config.registry as r; print(resa_hub.__file__); print(r.builtin_path())"
    done = installed.start(str(installed.python), "-c", code)
    assert done.returncode == 0, done.stderr
    package, names = done.stdout.splitlines()
    environment = str(installed.python.parent.parent)
    assert package.startswith(environment) and names.startswith(environment) and str(ROOT) not in done.stdout


def test_light_commands_of_the_wheel(installed: Installed) -> None:
    shown = installed.run("--help")
    assert shown.returncode == 0 and "extract" in shown.stdout
    names = installed.run("registry", "models", "-q")
    assert names.returncode == 0 and {"model:tiny-r1", "model:tina-tiny", "model:tina-still"} <= set(
        names.stdout.split()
    )


def test_demo_of_the_wheel(demonstration: Demonstration, installed: Installed) -> None:
    assert demonstration.workspace.parent == installed.folder
    assert "What came out" in demonstration.output and str(ROOT) not in demonstration.output + demonstration.errors
    listed = installed.run("list", "-q", "--workspace", "demo")
    assert listed.stdout.split() == ["tina-tiny-feature-diff-l2@0.1.0", "tina-tiny-sae-tuning-l2@0.1.0"]
