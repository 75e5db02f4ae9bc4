"""What all remotes share: search, adapters without their SAE, signatures and the policy that asks for them; the registry of containers."""

import hashlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from resa_hub import share, signing
from resa_hub.adapter import card
from resa_hub.adapter.files import CARD, CONFIG, MANIFEST, SIGNATURE, WEIGHTS, scan
from resa_hub.adapter.store import Adapter, Store, lacks_sae
from resa_hub.adapter.verify import verify
from resa_hub.adapters import find
from resa_hub.cli.app import run
from resa_hub.errors import Conflict, HubError, Integrity, Network, NotFound, Usage
from resa_hub.refs import AdapterRef, RemoteRef
from resa_hub.workspace import Workspace
from tests.adapters import make_adapter
from tests.hub.fixtures import OTHER_TOKEN, REMOTE, REPO, demo_on_the_hub, empty_workspace, running_hub, workspace_with_demo  # noqa: F401  (fixtures)
from tests.hub.server import HubServer

VERDICT = {
    "verdict": "transferred", "sentence": "Better.", "target": "tiny-r1", "benchmark": "tiny-chain", "split": "test", "samples": 4,
    "arms": [{"role": "adapter", "score": 91.2}],
}  # fmt: skip


@pytest.fixture(name="registry", scope="module")
def container_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real registry daemon on a free port of this machine."""
    program = shutil.which("docker-registry")
    assert program, "the registry daemon is missing: apt-get install docker-registry"
    folder = tmp_path_factory.mktemp("registry")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "config.yml"
    config.write_text(
        json.dumps(
            {"version": 0.1, "log": {"level": "error"}, "storage": {"filesystem": {"rootdirectory": str(folder)}}, "http": {"addr": f"127.0.0.1:{port}"}}
        )
    )
    process = subprocess.Popen([program, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as line:
                if line.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def described(folder: Path, name: str = "judged") -> Path:
    """A workspace whose adapter carries a verdict, also in its card."""
    made = make_adapter(folder / "adapters", name, evals={"tiny-r1--tiny-chain--test.json": VERDICT})
    (made / CARD).write_text(card.render(Store(folder / "adapters").get(AdapterRef(name)).manifest, [VERDICT]))
    return folder


def test_search_by_base_tag_and_verdict_on_the_hub(hub: HubServer, tmp_path: Path) -> None:
    share.push("judged", "hf:alice/judged", workspace=described(tmp_path / "one"), public=True)
    share.push("demo", "hf:alice/plain", workspace=described(tmp_path / "two", "demo"), public=True)
    found = share.search("hf", base="tiny-r1", verdict="transferred", text="judged", workspace=tmp_path)
    assert [(each.ref, each.base, each.method, each.verdicts) for each in found] == [
        ("hf:alice/judged", "resa-hub/tiny-r1", "logit-distill", ("transferred on tiny-r1, tiny-chain",))
    ]
    assert len(share.search("hf", tag="logit-distill", workspace=tmp_path)) == 2
    assert share.search("hf", verdict="harmful", workspace=tmp_path) == [] and share.search("hf", base="o/other", workspace=tmp_path) == []
    assert share.search("hf:alice/judged", workspace=tmp_path)[0].ref == "hf:alice/judged"
    assert not hub.sent("GET", "/resolve/")


def test_search_in_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    remote = f"folder:{tmp_path}/remote"
    for number, name in enumerate(("judged", "demo")):
        share.push(name, remote, workspace=described(tmp_path / str(number), name))
    assert run(["search", "--in", remote, "--base", "tiny-r1", "--verdict", "transferred", "--json", "--workspace", str(tmp_path)]) == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out)["adapters"]] == ["demo", "judged"]
    (found,) = share.search(remote, text="judg", workspace=tmp_path)
    assert share.pull(found.ref, workspace=tmp_path / "there").adapter.manifest.name == "judged"
    with pytest.raises(NotFound):
        share.search(f"folder:{tmp_path}/nowhere", workspace=tmp_path)


@pytest.mark.parametrize("kind", ["folder", "hf", "oci"])
def test_an_adapter_travels_without_its_sae_and_is_completed_later(
    made: Adapter, workspace: Path, tmp_path: Path, hub: HubServer, registry: str, kind: str
) -> None:
    name, remote = made.manifest.name, {"folder": f"folder:{tmp_path}/remote", "hf": REMOTE, "oci": f"oci://{registry}/team/sae-{tmp_path.name}"}[kind]
    share.push(name, remote, workspace=workspace)
    there = Workspace.find(tmp_path / "there")
    part = share.pull(remote, workspace=there.folder, sae=False)
    assert part.new and lacks_sae(part.adapter) and verify(part.adapter.folder).content_hash == made.manifest.content_hash
    assert run(["attach", name, "--target", "tiny-r1", "--workspace", str(there.folder)]) == 0
    with pytest.raises(Usage, match="without its SAE"):
        share.push(name, remote, workspace=there.folder)
    whole = share.pull(remote, workspace=there.folder)
    assert not whole.new and not lacks_sae(whole.adapter) and scan(whole.adapter.folder) == scan(workspace / "adapters" / name / "0.1.0")


@pytest.mark.parametrize("kind", ["folder", "hf", "oci"])
def test_a_push_without_sae_keeps_it_at_home(made: Adapter, workspace: Path, tmp_path: Path, hub: HubServer, registry: str, kind: str) -> None:
    name, remote = made.manifest.name, {"folder": f"folder:{tmp_path}/remote", "hf": REMOTE, "oci": f"oci://{registry}/team/less-{tmp_path.name}"}[kind]
    done = share.push(name, remote, workspace=workspace, sae=False)
    assert done.changed and not any(entry.path.startswith("sae/") for entry in done.sent)
    assert lacks_sae(share.pull(remote, workspace=tmp_path / "there").adapter)
    assert not share.push(name, remote, workspace=workspace, sae=False).changed
    assert share.push(name, remote, workspace=workspace).changed  # now with it: the version's bytes are the same adapter
    assert not lacks_sae(share.pull(remote, workspace=tmp_path / "third").adapter)
    assert not share.push(name, remote, workspace=workspace, sae=False).changed  # what is there stays
    assert not lacks_sae(share.pull(remote, workspace=tmp_path / "fourth").adapter)


def key_pair(folder: Path, name: str) -> tuple[Path, Path]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / f"{name}.pem", folder / f"{name}.pub"
    paths[0].write_bytes(private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    paths[1].write_bytes(private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return paths


@pytest.fixture(name="keys")
def two_key_pairs(tmp_path: Path) -> tuple[tuple[Path, Path], tuple[Path, Path]]:
    return key_pair(tmp_path / "keys", "acme"), key_pair(tmp_path / "keys", "other")


Keys = tuple[tuple[Path, Path], tuple[Path, Path]]


@pytest.mark.parametrize("kind", ["folder", "hf", "oci"])
def test_a_signature_travels_and_is_checked(here: Path, there: Path, tmp_path: Path, hub: HubServer, registry: str, keys: Keys, kind: str) -> None:
    (private, public), (_, stranger) = keys
    remote = {"folder": f"folder:{tmp_path}/remote", "hf": REMOTE, "oci": f"oci://{registry}/team/signed-{tmp_path.name}"}[kind]
    before = find("demo", Workspace.find(here)).manifest.content_hash
    share.push("demo", remote, workspace=here, sign=private)
    pulled = share.pull(remote, workspace=there).adapter
    assert pulled.manifest.content_hash == before  # a signature is no part of the identity
    base = ["verify", "demo", "--workspace", str(there)]
    assert run([*base, "--key", str(public)]) == 0 and run([*base, "--key", str(stranger)]) == 5
    assert run([*base, "--key", str(stranger), "--key", str(public)]) == 0
    assert run([*base, "--key", str(tmp_path / "absent.pub")]) == 3 and run([*base, "--key", str(private)]) == 5


def test_what_was_changed_behind_a_signature_is_refused(here: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    (private, public), _ = keys
    adapter = find("demo", Workspace.find(here))
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
    adapter = find("demo", Workspace.find(here))
    shutil.copytree(adapter.folder, tmp_path / "card", ignore=shutil.ignore_patterns("*.json", "*.safetensors"))
    model_signing.signing.Config().use_elliptic_key_signer(private_key=private).sign(tmp_path / "card", adapter.folder / SIGNATURE)
    with pytest.raises(Integrity, match="alone"):
        signing.check(adapter.folder, [public], "demo")


def test_a_policy_asks_for_signatures_of_a_remote(here: Path, there: Path, tmp_path: Path, keys: Keys) -> None:
    (private, public), (_, stranger) = keys
    remote = f"folder:{tmp_path}/remote"
    share.push("demo", remote, workspace=here)
    there.mkdir()
    policy = there / "policy.yaml"
    policy.write_text(f"signatures:\n- {{remote: 'folder:{tmp_path}/*', keys: ['{public}']}}\n")
    with pytest.raises(Integrity, match="not signed"):
        share.pull(remote, workspace=there)
    assert Store(there / "adapters").names() == []
    share.push("demo", remote, workspace=here, sign=private)
    policy.write_text(f"signatures:\n- {{remote: 'folder:{tmp_path}/*', keys: ['{stranger}']}}\n")
    with pytest.raises(Integrity, match="not signed by"):
        share.pull(remote, workspace=there)
    policy.write_text("signatures: 3")
    with pytest.raises(Usage, match="policy"):
        share.pull(remote, workspace=there)
    policy.write_text(f"signatures:\n- {{remote: 'folder:{tmp_path}/*', keys: ['{public}']}}\n- {{remote: 'hf:*', keys: [none.pub]}}\n")
    assert share.pull(remote, workspace=there).new


@pytest.fixture(name="oci")
def a_repository(registry: str, tmp_path: Path) -> str:
    return f"oci://{registry}/team/{tmp_path.name.replace('_', '-')}"


def test_a_registry_of_containers_keeps_versions(oci: str, here: Path, there: Path, tmp_path: Path) -> None:
    first = share.push("demo", oci, workspace=here)
    assert first.changed and first.uri.startswith(f"{oci}@sha256:")
    again = share.push("demo", oci, workspace=here)
    assert not again.changed and again.sent == () and again.uri == first.uri
    make_adapter(here / "adapters", "demo", "0.2.0", seed=4)
    assert share.push("demo", oci, workspace=here, dry_run=True).changed
    share.push("demo", oci, workspace=here)
    pulled = [share.pull(ref, workspace=there).adapter.manifest.version for ref in (f"{oci}:v0.1.0", f"{oci}:0.1.0", first.uri, oci)]
    assert pulled == ["0.1.0", "0.1.0", "0.1.0", "0.2.0"]
    assert scan(there / "adapters/demo/0.1.0") == scan(here / "adapters/demo/0.1.0")
    assert [each.ref.rpartition(":")[2] for each in share.search(oci, workspace=here)] == ["v0.2.0", "v0.1.0"]
    make_adapter(tmp_path / "elsewhere" / "adapters", "demo", "0.1.0", seed=8)
    with pytest.raises(Conflict, match="other bytes"):
        share.push("demo", oci, workspace=tmp_path / "elsewhere")


def test_what_a_registry_lacks_or_says_wrongly(oci: str, registry: str, here: Path, there: Path) -> None:
    share.push("demo", oci, workspace=here)
    for ref in (f"{oci}:v0.9.0", f"{oci}@sha256:{'0' * 64}", f"oci://{registry}/team/absent"):
        with pytest.raises(NotFound):
            share.pull(ref, workspace=there)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(Network):
            share.pull(f"oci://127.0.0.1:{free.getsockname()[1]}/a/b", workspace=there)
    assert Store(there / "adapters").names() == []


@pytest.mark.parametrize("path", ["../evil.json", "/evil.json", "code.py", "evals/../../evil.json", WEIGHTS + "\n", "signature.json/x"])
def test_a_registry_that_lists_hostile_layers_is_refused(oci: str, here: Path, there: Path, path: str) -> None:
    from resa_hub.remotes.oci import IMAGE, TITLE, TYPE, OciRemote, _layer

    share.push("demo", oci, workspace=here)
    remote = OciRemote(RemoteRef.parse(oci))
    entries = scan(here / "adapters/demo/0.1.0")
    layers = [_layer(entry) for entry in entries]
    layers[0]["annotations"][TITLE] = path
    config = {"mediaType": TYPE, "size": 2, "digest": f"sha256:{hashlib.sha256(b'{}').hexdigest()}"}
    manifest = {"schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": layers}
    with remote._client() as client:
        assert client.upload_manifest(manifest, remote._container(client, "v0.1.0")).status_code == 201
    with pytest.raises(Integrity):
        share.pull(f"{oci}:v0.1.0", workspace=there)
    assert Store(there / "adapters").names() == [] and not list(there.parent.rglob("evil*"))


@pytest.mark.parametrize(
    "text", ["oci:x/y", "oci://", "oci://host", "oci://Host/a", "oci://host/a/../b", "oci://host/a:", "oci://host/a@sha256:12", "oci://h/a:b:c"]
)
def test_what_is_no_repository_of_a_registry(text: str) -> None:
    with pytest.raises(Usage):
        RemoteRef.parse(text)


@pytest.mark.parametrize("text", ["oci://host/a", "oci://host:5000/a/b:v0.1.0", f"oci://host/a@sha256:{'0' * 64}"])
def test_repositories_of_a_registry_keep_their_text(text: str) -> None:
    assert str(RemoteRef.parse(text)) == text


def test_a_head_that_moves_is_no_harm(hub: HubServer, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's file lands between our reading of the head and our commit: twice the push starts again, and it lands."""
    from resa_hub.remotes.hub import HubRemote

    commit, moves = HubRemote._commit, [0]

    def after_somebody(self: HubRemote, *arguments: object) -> str:
        if moves[0] < 2:
            moves[0] += 1
            hub.storage.advance(REPO, {f"evals/other-{moves[0]}.json": json.dumps(VERDICT).encode()})
        return commit(self, *arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(HubRemote, "_commit", after_somebody)
    done = share.push("demo", REMOTE, workspace=here)
    assert done.changed and moves == [2] and share.pull(f"{REMOTE}@v0.1.0", workspace=there).new


def test_a_slow_line_only_takes_time(hub: HubServer, pushed: share.Pushed, there: Path) -> None:
    hub.slow = 0.05
    began = time.monotonic()
    assert share.pull(REMOTE, workspace=there).new
    assert time.monotonic() - began > 0.2  # the line was slow indeed


def test_a_transfer_cut_in_the_middle_leaves_nothing(hub: HubServer, pushed: share.Pushed, there: Path) -> None:
    hub.cut_files = True
    with pytest.raises(HubError) as raised:
        share.pull(REMOTE, workspace=there)
    assert raised.value.exit_code in (5, 7) and Store(there / "adapters").names() == []
    hub.cut_files = False
    assert share.pull(REMOTE, workspace=there).new


def test_a_moved_tag_is_seen(hub: HubServer, pushed: share.Pushed, here: Path, there: Path) -> None:
    """The version's tag was moved to other bytes of the same version: whoever holds the version already is told."""
    share.pull(REMOTE, workspace=there)
    make_adapter(here.parent / "evil" / "adapters", "demo", "0.1.0", seed=66)
    other = here.parent / "evil" / "adapters" / "demo" / "0.1.0"
    head = hub.storage.advance(REPO, {name: (other / name).read_bytes() for name in (WEIGHTS, CONFIG, MANIFEST)})
    hub.storage.repos[REPO].tags["v0.1.0"] = head or hub.storage.repos[REPO].branches["main"]
    with pytest.raises(Conflict, match="other bytes"):
        share.pull(f"{REMOTE}@v0.1.0", workspace=there)
    with pytest.raises(Conflict, match="other bytes"):
        share.push("demo", REMOTE, workspace=here)


def test_the_hubs_own_command_line_works_against_the_test_hub(hub: HubServer, pushed: share.Pushed, tmp_path: Path) -> None:
    import os
    import sys

    env = os.environ | {"HF_ENDPOINT": hub.url, "HF_TOKEN": OTHER_TOKEN, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    program = str(Path(sys.executable).with_name("hf"))

    def hf(*arguments: str, token: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *arguments], env=env | {"HF_TOKEN": token}, capture_output=True, text=True, timeout=120)

    from tests.hub.fixtures import TOKEN

    assert "alice" in hf("auth", "whoami", token=TOKEN).stdout
    done = hf("download", REPO, "--revision", "v0.1.0", "--local-dir", str(tmp_path / "plain"), token=TOKEN)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "plain" / WEIGHTS).read_bytes() == hub.storage.get(hub.storage.tree(REPO)[WEIGHTS].sha256)
    env["HF_HOME"] = str(tmp_path / "other")  # from the cache of before it would serve a stranger without asking
    assert hf("download", REPO, "--local-dir", str(tmp_path / "no"), token=OTHER_TOKEN).returncode != 0  # private
