"""A running Hub with the environment of a person who is logged in to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .server import HubServer

TOKEN, OWNER = "hf_test_owner", "alice"
OTHER_TOKEN, OTHER = "hf_test_other", "bob"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """HF_ENDPOINT, token and cache of this test only; `hub.url` answers, nothing else is reachable through the client."""
    from huggingface_hub import constants

    server = HubServer(tmp_path / "hub", {TOKEN: OWNER, OTHER_TOKEN: OTHER})
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    yield server
    server.stop()


@pytest.fixture
def anonymous(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is logged in; to be asked for after `hub`."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
