"""A running Hub, the environment of a person who is logged in to it, and two workspaces."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from resa_hub.core.errors import HubError
from resa_hub.hub import sharing

from ..adapters import make_adapter, names_in
from .server import HubServer

TOKEN, OWNER = "hf_test_owner", "alice"
OTHER_TOKEN, OTHER = "hf_test_other", "bob"


@pytest.fixture(name="hub")
def running_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """HF_ENDPOINT, token and cache of this test only; `hub.url` answers, nothing else is reachable through the
    client.
    """
    from huggingface_hub import constants

    server = HubServer(tmp_path / "hub", {TOKEN: OWNER, OTHER_TOKEN: OTHER})
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    yield server
    server.stop()


REPO = "alice/demo"
REMOTE = f"hf:{REPO}"
DEMO = "adapters/demo/0.1.0"


@pytest.fixture(name="here")
def workspace_with_demo(tmp_path: Path) -> Path:
    """A workspace holding demo@0.1.0."""
    make_adapter(tmp_path / "here" / "adapters")
    return tmp_path / "here"


@pytest.fixture(name="there")
def empty_workspace(tmp_path: Path) -> Path:
    return tmp_path / "there"


@pytest.fixture(name="pushed")
def demo_on_the_hub(hub: HubServer, here: Path) -> sharing.PushResult:
    return sharing.push("demo", REMOTE, workspace=here)


def refused(error: type[HubError], there: Path, ref: str = REMOTE) -> HubError:
    """The pull fails with this error and a hint, and leaves nothing behind."""
    before = names_in(there)
    with pytest.raises(error) as raised:
        sharing.pull(ref, workspace=there)
    assert type(raised.value) is error and raised.value.hint
    assert names_in(there) == before
    return raised.value
