"""The committed adapter with its evaluations, in a workspace."""

import shutil
from pathlib import Path

import pytest

from tests.helpers.commands import ROOT


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A workspace that holds a copy of the committed adapter."""
    shutil.copytree(ROOT / "adapters", tmp_path / "adapters")
    return tmp_path
