"""How the program is reached, and what is to be typed for a missing package: lines that work where the person is."""

import re
import shlex
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from resa_hub.core import install
from tests.helpers.commands import ROOT

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
HERE = Path(sys.executable).parent


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder outside the checkout, and a PATH without this environment."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv("UV_RUN_RECURSION_DEPTH", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def reached() -> str:
    """What a shell prints for the version, the program called as `program` says."""
    return subprocess.run(["sh", "-c", f"{install.program()} --version"], capture_output=True, text=True).stdout


def test_program_on_the_path_is_its_name(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{HERE}:/usr/bin:/bin")
    assert install.program() == "resa-hub" and install.activation() == ""
    assert metadata.version("resa-hub") in reached()


def test_link_to_the_program_on_the_path_is_the_program(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """uv and pipx put one into a folder of the PATH."""
    (elsewhere / "resa-hub").symlink_to(HERE / "resa-hub")
    monkeypatch.setenv("PATH", f"{elsewhere}:/usr/bin:/bin")
    assert install.program() == "resa-hub" and install.activation() == ""


def test_program_off_the_path_is_the_way_to_it(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert install.program() == str(HERE / "resa-hub") and metadata.version("resa-hub") in reached()
    assert install.activation() == f"source {HERE / 'activate'}"
    monkeypatch.chdir(HERE.parent.parent)
    assert install.program() == f"{HERE.parent.name}/bin/resa-hub" and metadata.version("resa-hub") in reached()


def test_another_program_of_that_name_is_not_taken_for_this_one(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (elsewhere / "resa-hub").write_text("#!/bin/sh\n")
    (elsewhere / "resa-hub").chmod(0o755)
    monkeypatch.setenv("PATH", f"{elsewhere}:/usr/bin:/bin")
    assert install.program() == str(HERE / "resa-hub")


def test_interpreter_without_the_command_starts_the_module(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = elsewhere / "a folder" / "python3"
    bare.parent.mkdir()
    bare.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(bare))
    assert shlex.split(install.program()) == ["a folder/python3", "-m", "resa_hub"] and install.activation() == ""


def test_uv_run_is_named_as_it_was_typed(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_RUN_RECURSION_DEPTH", "1")
    assert install.program() == "uv run resa-hub"


@pytest.mark.parametrize("extra", sorted(EXTRAS.keys() - {"dev", "test"}))
def test_missing_extra_is_told_by_the_packages_themselves(extra: str) -> None:
    """This project is in no index of packages: its own name may not stand behind `pip install`."""
    error = install.missing("something is not there", extra)
    assert error.exit_code == 8 and "install resa-hub" not in error.hint and "resa-hub[" not in error.hint
    if extra in install.BY_SETUP:
        assert f"EXTRAS={extra}" in error.hint
        return
    names = [re.split(r"[^\w-]", line)[0] for line in EXTRAS[extra]]
    if sys.platform == "linux":
        assert all(name in error.hint for name in names)
    assert ";" not in error.hint and "marker" not in error.hint


def test_missing_dependency_is_told_with_its_range() -> None:
    assert re.search(r"pip install .*'datasets>=5\.2'$", install.how_to_get("datasets"))


def test_line_of_pip_is_for_this_environment(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = install.pip_install(["oras>=0.2.43", "rich"])
    assert line in (
        f"{sys.executable} -m pip install 'oras>=0.2.43' rich",
        f"uv pip install --python {sys.executable} 'oras>=0.2.43' rich",
    )
    if " -m pip" in line:
        monkeypatch.setenv("PATH", f"{HERE}:/usr/bin:/bin")
        assert install.pip_install(["rich"]) == "pip install rich"


def test_plain_copy_of_the_files_names_the_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", absent)
    assert install.how_to_get("oci") == "in a clone of resa-hub: pip install '.[oci]'"


def test_no_text_sends_people_to_an_index_for_this_project() -> None:
    """`pip install resa-hub` would fetch whatever a stranger has put there under that name."""
    files = [*(ROOT / "resa_hub").rglob("*.py"), *(ROOT / "bench").rglob("*.py"), *(ROOT / "resa_hub").rglob("*.jinja")]
    files += [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *(ROOT / "docs").rglob("*.md")]
    wrong = re.compile(r"(pip|pipx|uv tool|uv pip) (install|add) [^.\n`]*?['\"]?resa[-_]hub\b|resa-hub\[")
    assert wrong.search("pip install resa-hub") and wrong.search("uv tool install 'resa-hub[oci]'")
    found = [path for path in files if wrong.search(path.read_text()) and path.name != "LOG.md"]
    assert [str(path) for path in found] == []
