"""Adapters in a container registry."""

import hashlib
import socket
from pathlib import Path

import pytest

from resa_hub.adapter.layout import WEIGHTS, scan
from resa_hub.adapter.store import Store
from resa_hub.config.remotes import RemoteRef
from resa_hub.core.errors import Conflict, Integrity, Network, NotFound, Usage
from resa_hub.hub import sharing
from tests.helpers.adapters import make_adapter


@pytest.fixture(name="oci")
def a_repository(registry: str, tmp_path: Path) -> str:
    return f"oci://{registry}/team/{tmp_path.name.replace('_', '-')}"


def test_a_registry_of_containers_keeps_versions(oci: str, here: Path, there: Path, tmp_path: Path) -> None:
    first = sharing.push("demo", oci, workspace=here)
    assert first.changed and first.uri.startswith(f"{oci}@sha256:")
    again = sharing.push("demo", oci, workspace=here)
    assert not again.changed and again.sent == () and again.uri == first.uri
    make_adapter(here / "adapters", "demo", "0.2.0", seed=4)
    assert sharing.push("demo", oci, workspace=here, dry_run=True).changed
    sharing.push("demo", oci, workspace=here)
    pulled = [
        sharing.pull(ref, workspace=there).adapter.manifest.version
        for ref in (f"{oci}:v0.1.0", f"{oci}:0.1.0", first.uri, oci)
    ]
    assert pulled == ["0.1.0", "0.1.0", "0.1.0", "0.2.0"]
    assert scan(there / "adapters/demo/0.1.0") == scan(here / "adapters/demo/0.1.0")
    assert [each.ref.rpartition(":")[2] for each in sharing.search(oci, workspace=here)] == ["v0.2.0", "v0.1.0"]
    make_adapter(tmp_path / "elsewhere" / "adapters", "demo", "0.1.0", seed=8)
    with pytest.raises(Conflict, match="other bytes"):
        sharing.push("demo", oci, workspace=tmp_path / "elsewhere")


def test_what_a_registry_lacks_or_says_wrongly(oci: str, registry: str, here: Path, there: Path) -> None:
    sharing.push("demo", oci, workspace=here)
    for ref in (f"{oci}:v0.9.0", f"{oci}@sha256:{'0' * 64}", f"oci://{registry}/team/absent"):
        with pytest.raises(NotFound):
            sharing.pull(ref, workspace=there)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(Network):
            sharing.pull(f"oci://127.0.0.1:{free.getsockname()[1]}/a/b", workspace=there)
    assert Store(there / "adapters").names() == []


@pytest.mark.parametrize(
    "path", ["../evil.json", "/evil.json", "code.py", "evals/../../evil.json", WEIGHTS + "\n", "signature.json/x"]
)
def test_a_registry_that_lists_hostile_layers_is_refused(oci: str, here: Path, there: Path, path: str) -> None:
    from resa_hub.hub.oci import IMAGE, TITLE, TYPE, OciRemote, _layer

    sharing.push("demo", oci, workspace=here)
    remote = OciRemote(RemoteRef.parse(oci))
    entries = scan(here / "adapters/demo/0.1.0")
    layers = [_layer(entry) for entry in entries]
    layers[0]["annotations"][TITLE] = path
    config = {"mediaType": TYPE, "size": 2, "digest": f"sha256:{hashlib.sha256(b'{}').hexdigest()}"}
    manifest = {"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": layers}
    with remote._client() as client:
        assert client.upload_manifest(manifest, remote._container(client, "v0.1.0")).status_code == 201
    with pytest.raises(Integrity):
        sharing.pull(f"{oci}:v0.1.0", workspace=there)
    assert Store(there / "adapters").names() == [] and not list(there.parent.rglob("evil*"))


@pytest.mark.parametrize(
    "text",
    [
        "oci:x/y",
        "oci://",
        "oci://host",
        "oci://Host/a",
        "oci://host/a/../b",
        "oci://host/a:",
        "oci://host/a@sha256:12",
        "oci://h/a:b:c",
    ],
)
def test_what_is_no_repository_of_a_registry(text: str) -> None:
    with pytest.raises(Usage):
        RemoteRef.parse(text)


@pytest.mark.parametrize("text", ["oci://host/a", "oci://host:5000/a/b:v0.1.0", f"oci://host/a@sha256:{'0' * 64}"])
def test_repositories_of_a_registry_keep_their_text(text: str) -> None:
    assert str(RemoteRef.parse(text)) == text
