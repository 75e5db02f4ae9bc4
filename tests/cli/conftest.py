"""What the tests of the command line share."""

from pathlib import Path

import pytest

from tests.helpers.commands import stocked


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a workspace with three adapters."""
    monkeypatch.delenv("RESA_HUB_WORKSPACE", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(stocked(tmp_path))
    return tmp_path
