"""What tests of the registry share: the names that come with the package, and a user who has none of his own."""

from pathlib import Path

import pytest

from resa_hub.config import registry
from resa_hub.config.registry import Registry


@pytest.fixture(autouse=True)
def user(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's registry: absent until a test writes it, never the one of this machine."""
    path = tmp_path_factory.mktemp("user") / "registry.yaml"
    monkeypatch.setattr(registry, "user_path", lambda: path)
    return path


def builtin() -> Registry:
    return Registry()
