"""An adapter and its SAE in two repositories of the Hub: the real client over real HTTP, read again by sae_lens."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy
import pytest
from safetensors.numpy import save_file

from resa_hub.adapter.layout import CARD, MANIFEST, content_hash, identity_of, scan
from resa_hub.adapter.manifest import read_manifest
from resa_hub.adapter.store import Adapter, lacks_sae
from resa_hub.cli.main import run
from resa_hub.config.remotes import RemoteRef
from resa_hub.core.errors import Conflict, Integrity, Usage
from resa_hub.hub import huggingface_sae, sharing
from resa_hub.hub.remote import PushResult
from tests.helpers.adapters import make_adapter
from tests.helpers.commands import HANG, environment
from tests.helpers.hub_server.server import HubServer

TO, APART = "hf:alice/adapter", "alice/sae"
FILES = {"layers.2/cfg.json", "layers.2/sae_weights.safetensors"}


def test_the_sae_goes_apart_and_sae_lens_loads_it(
    hub: HubServer, made: Adapter, workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch
    from huggingface_hub import snapshot_download
    from sae_lens import SAE

    name = made.manifest.name
    words = ["push", name, "--to", TO, "--sae-repo", APART, "--workspace", str(workspace), "--json"]
    assert run([*words, "--dry-run"]) == 0 and not hub.storage.repos
    planned = json.loads(capsys.readouterr().out)
    assert {file["path"] for file in planned["sae"]["sent"]} == FILES | {CARD} and not any(
        file["path"].startswith("sae/") for file in planned["sent"]
    )
    assert run(words) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["sae"]["sent"] == planned["sae"]["sent"] and done["sent"] == planned["sent"]
    repo = hub.storage.repos[APART]
    assert repo.private and hub.storage.repos["alice/adapter"].private
    version = f"v{made.manifest.version}"
    assert repo.tags == {version: repo.branches["main"]} and set(hub.storage.repos["alice/adapter"].tags) == {version}
    assert (
        len(hub.storage.history(repo)) == 2 and done["sae"]["uri"] == f"hf:{APART}@{repo.branches['main']}"
    )  # one commit after the first, empty one
    assert set(hub.storage.tree(APART)) == {".gitattributes", CARD} | FILES
    assert not any(path.startswith("sae/") for path in hub.storage.tree("alice/adapter"))
    folder = Path(snapshot_download(APART, endpoint=hub.url, cache_dir=tmp_path / "theirs"))
    sae, mine = (SAE.load_from_disk(place) for place in (folder / "layers.2", made.folder / "sae/layers.2"))
    x = torch.randn(8, sae.cfg.d_in)
    assert torch.equal(sae(x), mine(x)) and sae(x).detach().abs().sum() > 0
    card = (folder / CARD).read_text()
    assert (
        "library_name: saelens" in card
        and f"`{TO}@{version}`" in card
        and f'revision="{version}"' in card
        and made.manifest.content_hash in card
    )
    assert lacks_sae(sharing.pull(TO, workspace=tmp_path / "there").adapter)
    # Nothing to send is no commit; what others add stays.
    hub.log.clear()
    assert run(words) == 0 and {exchange.method for exchange in hub.log} <= {"GET", "HEAD"}
    capsys.readouterr()
    # Interrupted between the commit and the tag, or pushed before there were tags: what is missing alone is sent, and
    # the tag set.
    repo.tags.clear()
    _, again = sharing.push_with_sae_repo(name, TO, APART, workspace=workspace, dry_run=True)
    assert again.changed and not again.sent and not repo.tags
    _, again = sharing.push_with_sae_repo(name, TO, APART, workspace=workspace)
    assert again.changed and not again.sent and repo.tags == {version: repo.branches["main"]}
    repo.tags.clear()
    hub.storage.advance(APART, {"layers.2/cfg.json": b"{}", "notes.txt": b"the owner's own"})
    _, again = sharing.push_with_sae_repo(name, TO, APART, workspace=workspace)
    assert [entry.path for entry in again.sent] == ["layers.2/cfg.json"] and "notes.txt" in hub.storage.tree(APART)
    assert repo.tags == {version: repo.branches["main"]} and again.uri.endswith(repo.branches["main"])


def versions(workspace: Path, made: Adapter, *numbers: str) -> None:
    """More versions of `made` with the same SAE, by their manifests."""
    for number in numbers:
        folder = workspace / "adapters" / made.manifest.name / number
        shutil.copytree(made.folder, folder)
        (folder / "resa.json").write_bytes(msgspec.structs.replace(made.manifest, version=number).to_json())


def test_the_tag_of_a_version_never_moves(
    hub: HubServer, made: Adapter, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, first = made.manifest.name, f"v{made.manifest.version}"
    versions(workspace, made, "0.2.0", "0.3.0")
    whole, apart = f"{name}@{made.manifest.version}", "hf:alice/whole"
    _, one = sharing.push_with_sae_repo(whole, TO, APART, workspace=workspace)
    repo = hub.storage.repos[APART]
    empty = hub.storage.commits[repo.branches["main"]].parent or ""
    _, two = sharing.push_with_sae_repo(f"{name}@0.2.0", TO, APART, workspace=workspace)
    assert (
        [entry.path for entry in two.sent] == [CARD]
        and set(repo.tags) == {first, "v0.2.0"}
        and repo.tags["v0.2.0"] == repo.branches["main"]
    )
    assert f"hf:{APART}@{repo.tags[first]}" == one.uri != two.uri
    # An earlier version is where it was; main belongs to the later one, whose card stays.
    tip, tags = repo.branches["main"], dict(repo.tags)
    _, again = sharing.push_with_sae_repo(whole, TO, APART, workspace=workspace)
    assert (again.uri, again.changed, repo.branches["main"], repo.tags) == (one.uri, False, tip, tags)
    # A version that comes late, and a tag that holds other bytes, are refused before anything is sent.
    del repo.tags[first]
    with pytest.raises(Conflict, match=r"later version 0\.2\.0"):
        huggingface_sae.push_sae(
            sharing.resolve_adapter(whole, sharing.Workspace.find(workspace)),
            RemoteRef.parse(f"hf:{APART}"),
            RemoteRef.parse(apart),
        )
    assert repo.branches["main"] == tip and first not in repo.tags
    repo.tags[first] = empty
    with pytest.raises(Conflict, match=f"{first} exists in {APART} with other bytes"):
        sharing.push_with_sae_repo(whole, TO, APART, workspace=workspace)
    assert repo.branches["main"] == tip
    # Somebody sets the tag between our look and ours: the client keeps theirs without a word, we do not.
    set_tag = huggingface_sae.set_tag

    def overtaken(*arguments: Any) -> None:
        repo.tags["v0.3.0"] = empty
        set_tag(*arguments)

    monkeypatch.setattr(huggingface_sae, "set_tag", overtaken)
    with pytest.raises(Conflict, match=r"v0\.3\.0 exists in alice/sae with other bytes"):
        sharing.push_with_sae_repo(f"{name}@0.3.0", TO, APART, workspace=workspace)
    assert repo.tags["v0.3.0"] == empty


def version_at(root: Path, number: str, *hookpoints: str) -> str:
    """A version of demo with an SAE at each of these hookpoints, small and without torch; its reference."""
    folder = make_adapter(root / "adapters", version=number)
    for at in hookpoints:
        (folder / "sae" / at).mkdir(parents=True)
        (folder / "sae" / at / "cfg.json").write_text(json.dumps({"metadata": {"hf_hook_name": at}}))
        save_file({"W_enc": numpy.ones((2, 3), numpy.float32)}, folder / "sae" / at / "sae_weights.safetensors")
    return sealed(folder)


def sealed(folder: Path) -> str:
    """Its manifest vouches for the files as they are now; its reference."""
    files = identity_of(scan(folder))
    manifest = msgspec.structs.replace(read_manifest(folder), files=files, content_hash=content_hash(files))
    (folder / MANIFEST).unlink()  # the blob of the store stays as it is
    (folder / MANIFEST).write_bytes(manifest.to_json())
    return manifest.reference


FOUND = """
import sys
from resa_hub.data import saes
from resa_hub.core.errors import HubError
for origin in sys.argv[1:]:
    try:
        print(saes.locate(origin).folder.name)
    except HubError as error:
        print(error.message)
"""


def found_at(hub: HubServer, cache: Path, *origins: str) -> list[str]:
    """The SAE that a process of its own takes from each, or what it says."""
    env = environment(HF_ENDPOINT=hub.url, HF_HOME=str(cache))
    return subprocess.run(
        [sys.executable, "-c", FOUND, *origins], env=env, capture_output=True, text=True, timeout=HANG, check=True
    ).stdout.splitlines()


def test_hookpoints_that_a_version_has_not_are_left_to_the_earlier_tags(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two, one, other = (
        version_at(tmp_path, *v)
        for v in (("0.2.0", "layers.2", "layers.3"), ("0.3.0", "layers.2"), ("0.4.0", "layers.1"))
    )

    def push(name: str) -> PushResult:
        return sharing.push_with_sae_repo(name, TO, APART, workspace=tmp_path)[1]

    assert push(two).removed == ()
    repo, gone = hub.storage.repos[APART], ["layers.3/cfg.json", "layers.3/sae_weights.safetensors"]
    assert FILES | set(gone) < set(hub.storage.tree(APART))
    # What would go is told before; one commit takes it away and says so; the tag of the version that had it keeps it.
    before, commits = repo.branches["main"], len(hub.storage.history(repo))
    words = ["push", one, "--to", TO, "--sae-repo", APART, "--workspace", str(tmp_path)]
    assert run([*words, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sae"]["removed"] == gone and repo.branches["main"] == before
    assert run(words) == 0 and f"{gone[0]} removed" in " ".join(capsys.readouterr().out.split())
    assert len(hub.storage.history(repo)) == commits + 1 and repo.tags["v0.3.0"] == repo.branches["main"]
    assert set(hub.storage.tree(APART)) == {".gitattributes", CARD} | FILES and set(gone) < set(
        hub.storage.tree(APART, "v0.2.0")
    )
    origins = [APART, f"{APART}@v0.3.0", f"{APART}@v0.2.0", f"{APART}@v0.2.0#layers.3", f"{APART}#layers.3"]
    assert found_at(hub, tmp_path / "hf", *origins) == [
        "layers.2",
        "layers.2",
        f"{APART}@v0.2.0 holds the SAEs of layers.2, layers.3",
        "layers.3",
        f"{APART}#layers.3 has no SAE of layers.3, only of layers.2",
    ]
    # Nothing is left to do, and an earlier version is where it was.
    tip = repo.branches["main"]
    assert (push(one).changed, push(two).changed, push(two).removed, repo.branches["main"]) == (False, False, (), tip)
    # Other folders of the same adapter's: all that the card names.
    assert set(push(other).removed) == FILES and {path for path in hub.storage.tree(APART) if "/" in path} == {
        path.replace("2", "1", 1) for path in FILES
    }
    assert set(hub.storage.tree(APART, "v0.3.0")) > FILES


def test_folders_that_no_card_names_stay(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner's own, also beside ours; those of a card that does not say which are its; and what somebody else takes
    away meanwhile is no error.
    """
    two, one, other = (
        version_at(tmp_path, *v)
        for v in (("0.2.0", "layers.2", "layers.3"), ("0.3.0", "layers.2"), ("0.4.0", "layers.1"))
    )
    sharing.push_with_sae_repo(two, TO, APART, workspace=tmp_path)
    own = {"layers.9/cfg.json": b"{}", "layers.9/sae_weights.safetensors": b"mine", "layers.3/notes.txt": b"mine"}
    hub.storage.advance(APART, dict(own))
    commit = huggingface_sae.commit_files

    def overtaken(*arguments: Any) -> str:
        monkeypatch.setattr(huggingface_sae, "commit_files", commit)
        hub.storage.advance(APART, {"layers.3/cfg.json": None})
        return commit(*arguments)

    monkeypatch.setattr(huggingface_sae, "commit_files", overtaken)
    assert sharing.push_with_sae_repo(one, TO, APART, workspace=tmp_path)[1].removed == (
        "layers.3/sae_weights.safetensors",
    )
    assert set(hub.storage.tree(APART)) == {".gitattributes", CARD} | FILES | set(own)
    # A card whose list is gone, as those written before there was one.
    card = hub.storage.get(hub.storage.tree(APART)[CARD].sha256)
    assert b"<!-- resa-hub: at layers.2 -->" in card
    hub.storage.advance(APART, {CARD: card.replace(b"<!-- resa-hub: at layers.2 -->\n", b"")})
    assert sharing.push_with_sae_repo(other, TO, APART, workspace=tmp_path)[1].removed == () and set(
        hub.storage.tree(APART)
    ) > FILES | set(own)


def test_what_stands_in_the_way(
    hub: HubServer, made: Adapter, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = made.manifest.name
    for to, apart in ((TO, "alice/adapter"), ("folder:/nowhere", APART), (TO, f"{APART}@main"), (TO, "nothing")):
        with pytest.raises(Usage):
            sharing.push_with_sae_repo(name, to, apart, workspace=workspace)
    assert run(["push", name, "--to", TO, "--sae-repo", APART, "--no-sae", "--workspace", str(workspace)]) == 2
    assert not hub.storage.repos
    for content in ({"README.md": b"# mine"}, {"layers.9/cfg.json": b"{}"}):
        hub.storage.create(APART, "alice", private=True)
        hub.storage.advance(APART, dict(content))
        before = hub.storage.repos[APART].branches["main"]
        with pytest.raises(Conflict, match="something else"):
            sharing.push_with_sae_repo(name, TO, APART, workspace=workspace)
        assert hub.storage.repos[APART].branches["main"] == before
    # Somebody commits between our look and our commit: looked at and decided anew.
    del hub.storage.repos[APART]
    commit, moves = huggingface_sae.commit_files, [3]

    def overtaken(*arguments: object) -> str:
        if moves[0]:
            moves[0] -= 1
            hub.storage.advance(APART, {"notes.txt": str(moves).encode()})
        return commit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(huggingface_sae, "commit_files", overtaken)
    with pytest.raises(Conflict, match="moved 3 times"):
        sharing.push_with_sae_repo(name, TO, APART, workspace=workspace)
    assert not FILES & set(hub.storage.tree(APART))
    moves[0] = 1
    assert (
        sharing.push_with_sae_repo(name, TO, APART, workspace=workspace)[1].changed
        and set(hub.storage.tree(APART)) > FILES
    )


def test_only_a_sound_and_whole_adapter_leaves(hub: HubServer, made: Adapter, workspace: Path) -> None:
    name = made.manifest.name
    folder = workspace / "adapters" / name / made.manifest.version
    config = folder / "sae/layers.2/cfg.json"
    config.unlink()  # a hard link of the store's blob stays as it is
    config.write_text("{}")
    with pytest.raises(Integrity):
        sharing.push_with_sae_repo(name, TO, APART, workspace=workspace)
    shutil.rmtree(folder / "sae")
    with pytest.raises(Usage, match="has no SAE here"):
        sharing.push_with_sae_repo(name, TO, APART, workspace=workspace)
    assert not hub.storage.repos


def test_a_version_without_its_sae_takes_that_of_an_earlier_one_away(hub: HubServer, tmp_path: Path) -> None:
    """Else its tag would hold the weights of one version and the SAE of another, and no pull would take it."""
    one, two = version_at(tmp_path, "0.1.0", "layers.2", "layers.3"), version_at(tmp_path, "0.2.0", "layers.2")
    folder = tmp_path / "adapters" / "demo" / "0.2.0"
    (folder / "sae" / "layers.2" / "cfg.json").write_text("{}")
    sealed(folder)
    sharing.push(one, TO, workspace=tmp_path)
    done = sharing.push(two, TO, workspace=tmp_path, sae=False)
    assert {path.partition("/")[0] for path in done.removed} == {"sae"} and len(done.removed) == 4
    assert not any(path.startswith("sae/") for path in hub.storage.tree("alice/adapter"))
    assert lacks_sae(sharing.pull(TO, workspace=tmp_path / "there").adapter)
    assert not lacks_sae(sharing.pull(f"{TO}@0.1.0", workspace=tmp_path / "there").adapter)
    assert sharing.push(two, TO, workspace=tmp_path).changed and not lacks_sae(
        sharing.pull(TO, workspace=tmp_path / "there").adapter
    )
