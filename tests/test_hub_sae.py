"""An adapter and its SAE in two repositories of the Hub: the real client over real HTTP, read again by sae_lens."""

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from resa_hub import share
from resa_hub.adapter.files import CARD
from resa_hub.adapter.store import Adapter, lacks_sae
from resa_hub.cli.app import run
from resa_hub.errors import Conflict, Integrity, Usage
from resa_hub.refs import RemoteRef
from resa_hub.remotes import hub_sae
from tests.hub.fixtures import running_hub  # noqa: F401  (a fixture)
from tests.hub.server import HubServer

TO, APART = "hf:alice/adapter", "alice/sae"
FILES = {"layers.2/cfg.json", "layers.2/sae_weights.safetensors"}


def test_the_sae_goes_apart_and_sae_lens_loads_it(hub: HubServer, made: Adapter, workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch
    from huggingface_hub import snapshot_download
    from sae_lens import SAE

    name = made.manifest.name
    words = ["push", name, "--to", TO, "--sae-repo", APART, "--workspace", str(workspace), "--json"]
    assert run([*words, "--dry-run"]) == 0 and not hub.storage.repos
    planned = json.loads(capsys.readouterr().out)
    assert {file["path"] for file in planned["sae"]["sent"]} == FILES | {CARD} and not any(file["path"].startswith("sae/") for file in planned["sent"])
    assert run(words) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["sae"]["sent"] == planned["sae"]["sent"] and done["sent"] == planned["sent"]
    repo = hub.storage.repos[APART]
    assert repo.private and hub.storage.repos["alice/adapter"].private
    version = f"v{made.manifest.version}"
    assert repo.tags == {version: repo.branches["main"]} and set(hub.storage.repos["alice/adapter"].tags) == {version}
    assert len(hub.storage.history(repo)) == 2 and done["sae"]["uri"] == f"hf:{APART}@{repo.branches['main']}"  # one commit after the first, empty one
    assert set(hub.storage.tree(APART)) == {".gitattributes", CARD} | FILES
    assert not any(path.startswith("sae/") for path in hub.storage.tree("alice/adapter"))
    folder = Path(snapshot_download(APART, endpoint=hub.url, cache_dir=tmp_path / "theirs"))
    sae, mine = (SAE.load_from_disk(place) for place in (folder / "layers.2", made.folder / "sae/layers.2"))
    x = torch.randn(8, sae.cfg.d_in)
    assert torch.equal(sae(x), mine(x)) and sae(x).detach().abs().sum() > 0
    card = (folder / CARD).read_text()
    assert "library_name: saelens" in card and f"`{TO}@{version}`" in card and f'revision="{version}"' in card and made.manifest.content_hash in card
    assert lacks_sae(share.pull(TO, workspace=tmp_path / "there").adapter)
    # Nothing to send is no commit; what others add stays.
    hub.log.clear()
    assert run(words) == 0 and {exchange.method for exchange in hub.log} <= {"GET", "HEAD"}
    capsys.readouterr()
    # Interrupted between the commit and the tag, or pushed before there were tags: what is missing alone is sent, and the tag set.
    repo.tags.clear()
    _, again = share.push_apart(name, TO, APART, workspace=workspace, dry_run=True)
    assert again.changed and not again.sent and not repo.tags
    _, again = share.push_apart(name, TO, APART, workspace=workspace)
    assert again.changed and not again.sent and repo.tags == {version: repo.branches["main"]}
    repo.tags.clear()
    hub.storage.advance(APART, {"layers.2/cfg.json": b"{}", "notes.txt": b"the owner's own"})
    _, again = share.push_apart(name, TO, APART, workspace=workspace)
    assert [entry.path for entry in again.sent] == ["layers.2/cfg.json"] and "notes.txt" in hub.storage.tree(APART)
    assert repo.tags == {version: repo.branches["main"]} and again.uri.endswith(repo.branches["main"])


def versions(workspace: Path, made: Adapter, *numbers: str) -> None:
    """More versions of `made` with the same SAE, by their manifests."""
    for number in numbers:
        folder = workspace / "adapters" / made.manifest.name / number
        shutil.copytree(made.folder, folder)
        (folder / "resa.json").write_bytes(msgspec.structs.replace(made.manifest, version=number).to_json())


def test_the_tag_of_a_version_never_moves(hub: HubServer, made: Adapter, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, first = made.manifest.name, f"v{made.manifest.version}"
    versions(workspace, made, "0.2.0", "0.3.0")
    whole, apart = f"{name}@{made.manifest.version}", "hf:alice/whole"
    _, one = share.push_apart(whole, TO, APART, workspace=workspace)
    repo = hub.storage.repos[APART]
    empty = hub.storage.commits[repo.branches["main"]].parent or ""
    _, two = share.push_apart(f"{name}@0.2.0", TO, APART, workspace=workspace)
    assert [entry.path for entry in two.sent] == [CARD] and set(repo.tags) == {first, "v0.2.0"} and repo.tags["v0.2.0"] == repo.branches["main"]
    assert f"hf:{APART}@{repo.tags[first]}" == one.uri != two.uri
    # An earlier version is where it was; main belongs to the later one, whose card stays.
    tip, tags = repo.branches["main"], dict(repo.tags)
    _, again = share.push_apart(whole, TO, APART, workspace=workspace)
    assert (again.uri, again.changed, repo.branches["main"], repo.tags) == (one.uri, False, tip, tags)
    # A version that comes late, and a tag that holds other bytes, are refused before anything is sent.
    del repo.tags[first]
    with pytest.raises(Conflict, match=r"later version 0\.2\.0"):
        hub_sae.push_sae(share.find(whole, share.Workspace.find(workspace)), RemoteRef.parse(f"hf:{APART}"), RemoteRef.parse(apart))
    assert repo.branches["main"] == tip and first not in repo.tags
    repo.tags[first] = empty
    with pytest.raises(Conflict, match=f"{first} exists in {APART} with other bytes"):
        share.push_apart(whole, TO, APART, workspace=workspace)
    assert repo.branches["main"] == tip
    # Somebody sets the tag between our look and ours: the client keeps theirs without a word, we do not.
    set_tag = hub_sae.set_tag

    def overtaken(*arguments: Any) -> None:
        repo.tags["v0.3.0"] = empty
        set_tag(*arguments)

    monkeypatch.setattr(hub_sae, "set_tag", overtaken)
    with pytest.raises(Conflict, match=r"v0\.3\.0 exists in alice/sae with other bytes"):
        share.push_apart(f"{name}@0.3.0", TO, APART, workspace=workspace)
    assert repo.tags["v0.3.0"] == empty


def test_what_stands_in_the_way(hub: HubServer, made: Adapter, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = made.manifest.name
    for to, apart in ((TO, "alice/adapter"), ("folder:/nowhere", APART), (TO, f"{APART}@main"), (TO, "nothing")):
        with pytest.raises(Usage):
            share.push_apart(name, to, apart, workspace=workspace)
    assert run(["push", name, "--to", TO, "--sae-repo", APART, "--no-sae", "--workspace", str(workspace)]) == 2
    assert not hub.storage.repos
    for content in ({"README.md": b"# mine"}, {"layers.9/cfg.json": b"{}"}):
        hub.storage.create(APART, "alice", private=True)
        hub.storage.advance(APART, dict(content))
        before = hub.storage.repos[APART].branches["main"]
        with pytest.raises(Conflict, match="something else"):
            share.push_apart(name, TO, APART, workspace=workspace)
        assert hub.storage.repos[APART].branches["main"] == before
    # Somebody commits between our look and our commit: looked at and decided anew.
    del hub.storage.repos[APART]
    commit, moves = hub_sae.commit_files, [3]

    def overtaken(*arguments: object) -> str:
        if moves[0]:
            moves[0] -= 1
            hub.storage.advance(APART, {"notes.txt": str(moves).encode()})
        return commit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(hub_sae, "commit_files", overtaken)
    with pytest.raises(Conflict, match="moved 3 times"):
        share.push_apart(name, TO, APART, workspace=workspace)
    assert not FILES & set(hub.storage.tree(APART))
    moves[0] = 1
    assert share.push_apart(name, TO, APART, workspace=workspace)[1].changed and set(hub.storage.tree(APART)) > FILES


def test_only_a_sound_and_whole_adapter_leaves(hub: HubServer, made: Adapter, workspace: Path) -> None:
    name = made.manifest.name
    folder = workspace / "adapters" / name / made.manifest.version
    config = folder / "sae/layers.2/cfg.json"
    config.unlink()  # a hard link of the store's blob stays as it is
    config.write_text("{}")
    with pytest.raises(Integrity):
        share.push_apart(name, TO, APART, workspace=workspace)
    shutil.rmtree(folder / "sae")
    with pytest.raises(Usage, match="has no SAE here"):
        share.push_apart(name, TO, APART, workspace=workspace)
    assert not hub.storage.repos
