"""A remote from outside the package: one file and one row of `REMOTES`."""

from pathlib import Path

import pytest

from resa_hub.adapter.store import Store
from resa_hub.config.remotes import REMOTES, RemoteRef, parse_adapter
from resa_hub.core.errors import Conflict, NotFound, Usage
from resa_hub.hub import sharing
from resa_hub.hub.remote import open_remote
from tests.helpers.adapters import make_adapter
from tests.plugins import memory


@pytest.fixture(autouse=True)
def row_of_the_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REMOTES, "memory", memory.REMOTES["memory"])
    monkeypatch.setattr(memory, "PLACES", {})


def test_its_references_are_read_and_written() -> None:
    ref = RemoteRef.parse("memory:shelf@v0.1.0")
    assert ref == RemoteRef("memory", "shelf", None, "v0.1.0") == parse_adapter(str(ref))
    assert isinstance(open_remote(ref), memory.MemoryRemote)
    with pytest.raises(Usage) as caught:
        RemoteRef.parse("disk:shelf")
    assert caught.value.hint.endswith("oci://host/name:version or memory:place")


def test_an_adapter_is_pushed_to_it_and_pulled(tmp_path: Path) -> None:
    make_adapter(tmp_path / "here" / "adapters", "demo")
    with pytest.raises(NotFound):
        sharing.pull("memory:shelf", workspace=tmp_path / "there")
    assert sharing.push("demo", "memory:shelf", workspace=tmp_path / "here").uri == "memory:shelf"
    pulled = sharing.pull("memory:shelf", workspace=tmp_path / "there")
    assert pulled.new and pulled.location == "memory:shelf"
    assert Store(tmp_path / "there" / "adapters").names() == ["demo"]
    make_adapter(tmp_path / "other" / "adapters", "demo", seed=1)
    with pytest.raises(Conflict):
        sharing.pull("memory:shelf", workspace=tmp_path / "other")
