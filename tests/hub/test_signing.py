"""Signatures travel with an adapter, and a policy asks for them."""

import shutil
from pathlib import Path

import msgspec
import pytest

from resa_hub.adapter.layout import MANIFEST, SIGNATURE
from resa_hub.adapter.store import Store
from resa_hub.adapter.workspace import Workspace
from resa_hub.cli.main import run
from resa_hub.core.errors import Integrity, Usage
from resa_hub.hub import sharing, signing
from resa_hub.hub.resolve import resolve_adapter
from tests.helpers.hub_server.fixtures import REMOTE
from tests.helpers.hub_server.server import HubServer


def key_pair(folder: Path, name: str) -> tuple[Path, Path]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / f"{name}.pem", folder / f"{name}.pub"
    paths[0].write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    paths[1].write_bytes(
        private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return paths


@pytest.fixture(name="keys")
def two_key_pairs(tmp_path: Path) -> tuple[tuple[Path, Path], tuple[Path, Path]]:
    return key_pair(tmp_path / "keys", "acme"), key_pair(tmp_path / "keys", "other")


Keys = tuple[tuple[Path, Path], tuple[Path, Path]]


@pytest.mark.parametrize("kind", ["folder", "hf", "oci"])
def test_a_signature_travels_and_is_checked(
    here: Path, there: Path, tmp_path: Path, hub: HubServer, registry: str, keys: Keys, kind: str
) -> None:
    (private, public), (_, stranger) = keys
    remote = {
        "folder": f"folder:{tmp_path}/remote",
        "hf": REMOTE,
        "oci": f"oci://{registry}/team/signed-{tmp_path.name}",
    }[kind]
    before = resolve_adapter("demo", Workspace.find(here)).manifest.content_hash
    sharing.push("demo", remote, workspace=here, sign=private)
    pulled = sharing.pull(remote, workspace=there).adapter
    assert pulled.manifest.content_hash == before  # a signature is no part of the identity
    base = ["verify", "demo", "--workspace", str(there)]
    assert run([*base, "--key", str(public)]) == 0 and run([*base, "--key", str(stranger)]) == 5
    assert run([*base, "--key", str(stranger), "--key", str(public)]) == 0
    assert run([*base, "--key", str(tmp_path / "absent.pub")]) == 3 and run([*base, "--key", str(private)]) == 5


def test_what_was_changed_behind_a_signature_is_refused(
    here: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    (private, public), _ = keys
    adapter = resolve_adapter("demo", Workspace.find(here))
    with pytest.raises(Integrity, match="not signed"):
        signing.check(adapter.folder, [public], "demo")
    signing.sign(adapter.folder, private)
    assert signing.check(adapter.folder, [public], "demo") == public
    whole, manifest = (adapter.folder / SIGNATURE).read_bytes(), (adapter.folder / MANIFEST).read_bytes()
    (adapter.folder / MANIFEST).write_bytes(msgspec.structs.replace(adapter.manifest, seed=99).to_json())
    with pytest.raises(Integrity, match="not signed by"):
        signing.check(adapter.folder, [public], "demo")
    (adapter.folder / MANIFEST).write_bytes(manifest)
    for harm in (whole[:-20], b"{}", b"[]", b"nonsense", whole.replace(b'"payload"', b'"payloat"')):
        (adapter.folder / SIGNATURE).write_bytes(harm)
        with pytest.raises(Integrity):
            signing.check(adapter.folder, [public], "demo")
    (adapter.folder / SIGNATURE).write_bytes(whole)
    assert signing.check(adapter.folder, [public], "demo") == public


def test_a_signature_of_something_else_does_not_count(here: Path, tmp_path: Path, keys: Keys) -> None:
    """Signed with the right key, but only the card: the manifest would be anybody's."""
    import model_signing

    (private, public), _ = keys
    adapter = resolve_adapter("demo", Workspace.find(here))
    shutil.copytree(adapter.folder, tmp_path / "card", ignore=shutil.ignore_patterns("*.json", "*.safetensors"))
    model_signing.signing.Config().use_elliptic_key_signer(private_key=private).sign(
        tmp_path / "card", adapter.folder / SIGNATURE
    )
    with pytest.raises(Integrity, match="alone"):
        signing.check(adapter.folder, [public], "demo")


def test_a_policy_asks_for_signatures_of_a_remote(here: Path, there: Path, tmp_path: Path, keys: Keys) -> None:
    (private, public), (_, stranger) = keys
    remote = f"folder:{tmp_path}/remote"
    sharing.push("demo", remote, workspace=here)
    there.mkdir()
    policy = there / "policy.yaml"
    policy.write_text(f"signatures:\n- {{remote: 'folder:{tmp_path}/*', keys: ['{public}']}}\n")
    with pytest.raises(Integrity, match="not signed"):
        sharing.pull(remote, workspace=there)
    assert Store(there / "adapters").names() == []
    sharing.push("demo", remote, workspace=here, sign=private)
    policy.write_text(f"signatures:\n- {{remote: 'folder:{tmp_path}/*', keys: ['{stranger}']}}\n")
    with pytest.raises(Integrity, match="not signed by"):
        sharing.pull(remote, workspace=there)
    policy.write_text("signatures: 3")
    with pytest.raises(Usage, match="policy"):
        sharing.pull(remote, workspace=there)
    policy.write_text(
        f"signatures:\n- {{remote: 'folder:{tmp_path}/*', keys: ['{public}']}}\n- {{remote: 'hf:*', keys: "
        "[none.pub]}\n"
    )
    assert sharing.pull(remote, workspace=there).new
