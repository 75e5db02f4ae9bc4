"""Adapters through a Hub: the real client over real HTTP; commits, tags and what stands in the way of a push."""

import json
from pathlib import Path

import pytest

from resa_hub.adapter.layout import CARD, CONFIG, MANIFEST, WEIGHTS, scan
from resa_hub.adapter.workspace import Workspace
from resa_hub.config.refs import AdapterRef
from resa_hub.config.remotes import RemoteRef
from resa_hub.core.errors import Conflict, Usage
from resa_hub.hub import sharing
from tests.helpers.adapters import make_adapter
from tests.helpers.hub_server.fixtures import DEMO, REMOTE, REPO, refused
from tests.helpers.hub_server.server import HubServer


def test_push_then_pull_gives_equal_bytes(hub: HubServer, pushed: sharing.PushResult, here: Path, there: Path) -> None:
    pulled = sharing.pull(REMOTE, workspace=there)
    assert pulled.new and pulled.location == pushed.uri == f"{REMOTE}@{hub.storage.repos[REPO].branches['main']}"
    assert scan(pulled.adapter.folder) == scan(here / DEMO)
    assert (
        pulled.adapter.manifest.content_hash == Workspace.find(here).store.get(AdapterRef("demo")).manifest.content_hash
    )
    assert not sharing.pull(pushed.uri, workspace=there).new


def test_push_is_one_private_commit_and_a_tag(hub: HubServer, pushed: sharing.PushResult) -> None:
    repo = hub.storage.repos[REPO]
    assert repo.private and repo.tags == {"v0.1.0": repo.branches["main"]}
    assert len(hub.sent("POST", "/commit/")) == 1 and len(hub.storage.history(repo)) == 2
    assert set(hub.storage.tree(REPO)) == {".gitattributes", WEIGHTS, CONFIG, MANIFEST, CARD}
    assert not hub.sent("GET", "xet")


def test_public_only_when_asked(hub: HubServer, here: Path) -> None:
    sharing.push("demo", REMOTE, workspace=here, public=True)
    assert not hub.storage.repos[REPO].private


def test_second_push_sends_nothing(hub: HubServer, pushed: sharing.PushResult, here: Path) -> None:
    hub.log.clear()
    again = sharing.push("demo", REMOTE, workspace=here)
    assert (again.uri, again.sent, again.changed) == (pushed.uri, (), False)
    assert {exchange.method for exchange in hub.log} == {"GET"}


def test_dry_run_only_reads(hub: HubServer, here: Path) -> None:
    planned = sharing.push("demo", REMOTE, workspace=here, dry_run=True)
    assert planned.changed and len(planned.sent) == 4
    assert {exchange.method for exchange in hub.log} == {"GET"} and not hub.storage.repos


def test_push_that_lost_its_tag_is_completed(hub: HubServer, pushed: sharing.PushResult, here: Path) -> None:
    hub.storage.repos[REPO].tags.clear()
    again = sharing.push("demo", REMOTE, workspace=here)
    assert (again.uri, again.sent, again.changed) == (pushed.uri, (), True)
    assert "v0.1.0" in hub.storage.repos[REPO].tags


def test_large_files_go_in_parts(hub: HubServer, here: Path, there: Path) -> None:
    hub.multipart_above = 200
    sharing.push("demo", REMOTE, workspace=here)
    assert len(hub.sent("PUT", "/_lfs/part/")) > 1
    assert sharing.pull(REMOTE, workspace=there).new


def test_versions_are_tags(hub: HubServer, pushed: sharing.PushResult, here: Path, there: Path) -> None:
    make_adapter(here / "adapters", version="0.2.0", seed=1)
    later = sharing.push("demo", REMOTE, workspace=here)
    assert sharing.pull(REMOTE, workspace=there).location == later.uri
    for revision in ("0.1.0", "v0.1.0"):
        assert sharing.pull(f"{REMOTE}@{revision}", workspace=there).location == pushed.uri
    assert Workspace.find(there).store.versions("demo") == ["0.1.0", "0.2.0"]


def test_earlier_version_leaves_main_alone(hub: HubServer, pushed: sharing.PushResult, here: Path) -> None:
    make_adapter(here / "adapters", version="0.2.0", seed=1)
    make_adapter(here / "adapters", version="0.1.5", seed=2)
    later = sharing.push("demo@0.2.0", REMOTE, workspace=here)
    assert sharing.push("demo@0.1.0", REMOTE, workspace=here) == sharing.PushResult(pushed.uri, (), False)
    with pytest.raises(Conflict):
        sharing.push("demo@0.1.5", REMOTE, workspace=here)
    assert hub.storage.repos[REPO].branches["main"] == later.uri.partition("@")[2]


def test_files_of_an_earlier_version_go(hub: HubServer, pushed: sharing.PushResult, here: Path, there: Path) -> None:
    """An SAE or verdict that belongs to 0.1.0 would make 0.2.0 unreadable, or praise the wrong adapter."""
    hub.storage.advance(
        REPO, {"evals/old.json": b"{}", "sae/layers.1/cfg.json": b"{}", "notes.txt": b"the owner's own"}
    )
    make_adapter(here / "adapters", version="0.2.0", seed=1)
    sharing.push("demo", REMOTE, workspace=here)
    assert set(hub.storage.tree(REPO)) == {".gitattributes", "notes.txt", WEIGHTS, CONFIG, MANIFEST, CARD}
    assert sharing.pull(REMOTE, workspace=there).new


def test_evaluations_of_others_stay(hub: HubServer, pushed: sharing.PushResult, here: Path, there: Path) -> None:
    hub.storage.advance(REPO, {"evals/theirs.json": b"{}"})
    (here / DEMO / "evals").mkdir()
    (here / DEMO / "evals/ours.json").write_text("{}")
    assert [entry.path for entry in sharing.push("demo", REMOTE, workspace=here).sent] == ["evals/ours.json"]
    assert hub.storage.repos[REPO].tags["v0.1.0"] == pushed.uri.partition("@")[2]
    folder = sharing.pull(REMOTE, workspace=there).adapter.folder
    assert sorted(path.name for path in (folder / "evals").iterdir()) == ["ours.json", "theirs.json"]


def test_tag_with_other_bytes_conflicts_before_any_commit(
    hub: HubServer, pushed: sharing.PushResult, there: Path
) -> None:
    make_adapter(there / "adapters", seed=1)
    hub.log.clear()
    for dry_run in (True, False):
        with pytest.raises(Conflict):
            sharing.push("demo", REMOTE, workspace=there, dry_run=dry_run)
    assert {exchange.method for exchange in hub.log} == {"GET"}
    assert hub.storage.repos[REPO].tags["v0.1.0"] == pushed.uri.partition("@")[2]


def test_other_adapter_in_the_repository_conflicts(hub: HubServer, pushed: sharing.PushResult, here: Path) -> None:
    make_adapter(here / "adapters", name="other", version="0.2.0", seed=1)
    with pytest.raises(Conflict, match="demo"):
        sharing.push("other", REMOTE, workspace=here)


def test_tag_set_by_somebody_else_meanwhile_conflicts(
    hub: HubServer, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between our look and our tag another process tags other bytes: the client says nothing, we do."""
    from resa_hub.hub.huggingface import HubRemote

    commit = HubRemote._commit

    def overtaken(self: HubRemote, *arguments: object) -> str:
        ours = commit(self, *arguments)  # type: ignore[arg-type]
        hub.storage.repos[REPO].tags["v0.1.0"] = hub.storage.advance(REPO, {CONFIG: b"{}"})
        return ours

    monkeypatch.setattr(HubRemote, "_commit", overtaken)
    with pytest.raises(Conflict):
        sharing.push("demo", REMOTE, workspace=here)


def test_other_bytes_in_the_store_conflict(hub: HubServer, pushed: sharing.PushResult, there: Path) -> None:
    mine = scan(make_adapter(there / "adapters", seed=1))
    refused(Conflict, there)
    assert scan(there / DEMO) == mine


def test_push_names_no_revision(hub: HubServer, here: Path) -> None:
    with pytest.raises(Usage):
        sharing.push("demo", f"{REMOTE}@main", workspace=here)


def test_manifest_on_the_hub_is_the_one_pushed(hub: HubServer, pushed: sharing.PushResult) -> None:
    manifest = json.loads(hub.storage.get(hub.storage.tree(REPO)[MANIFEST].sha256))
    assert manifest["name"] == "demo" and str(RemoteRef.parse(pushed.uri)) == pushed.uri
