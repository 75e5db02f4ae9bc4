"""Adapters through a Hub: the real client over real HTTP, against a Hub that can be told to misbehave."""

import json
import socket
from pathlib import Path

import pytest

from resa_hub import share
from resa_hub.adapter.files import CARD, CONFIG, MANIFEST, WEIGHTS, scan
from resa_hub.errors import Conflict, HubError, Integrity, Network, NotFound, RunFailed, Usage
from resa_hub.refs import AdapterRef, RemoteRef
from resa_hub.remotes.hub_client import hub_client, is_hostile
from resa_hub.workspace import Workspace
from tests.adapters import make_adapter
from tests.hub.fixtures import OTHER_TOKEN, hub  # noqa: F401  (a fixture)
from tests.hub.server import NO_ANSWER, HubServer

REPO = "alice/demo"
REMOTE = f"hf:{REPO}"
DEMO = "adapters/demo/0.1.0"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A workspace holding demo@0.1.0."""
    make_adapter(tmp_path / "here" / "adapters")
    return tmp_path / "here"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "there"


@pytest.fixture
def pushed(hub: HubServer, here: Path) -> share.Pushed:  # noqa: F811
    return share.push("demo", REMOTE, workspace=here)


def names_in(workspace: Path) -> list[str]:
    """What the store holds, staging folders included: nothing but whole adapters may ever be there."""
    root = workspace / "adapters"
    assert not list((root / ".staging").glob("*"))
    return Workspace.find(workspace).store.names()


def refused(error: type[HubError], there: Path, ref: str = REMOTE) -> HubError:
    """The pull fails with this error and a hint, and leaves nothing behind."""
    before = names_in(there)
    with pytest.raises(error) as raised:
        share.pull(ref, workspace=there)
    assert type(raised.value) is error and raised.value.hint
    assert names_in(there) == before
    return raised.value


def test_push_then_pull_gives_equal_bytes(hub: HubServer, pushed: share.Pushed, here: Path, there: Path) -> None:  # noqa: F811
    pulled = share.pull(REMOTE, workspace=there)
    assert pulled.new and pulled.location == pushed.uri == f"{REMOTE}@{hub.storage.repos[REPO].branches['main']}"
    assert scan(pulled.adapter.folder) == scan(here / DEMO)
    assert pulled.adapter.manifest.content_hash == Workspace.find(here).store.get(AdapterRef("demo")).manifest.content_hash
    assert not share.pull(pushed.uri, workspace=there).new


def test_push_is_one_private_commit_and_a_tag(hub: HubServer, pushed: share.Pushed) -> None:  # noqa: F811
    repo = hub.storage.repos[REPO]
    assert repo.private and repo.tags == {"v0.1.0": repo.branches["main"]}
    assert len(hub.sent("POST", "/commit/")) == 1 and len(hub.storage.history(repo)) == 2
    assert set(hub.storage.tree(REPO)) == {".gitattributes", WEIGHTS, CONFIG, MANIFEST, CARD}
    assert not hub.sent("GET", "xet")


def test_public_only_when_asked(hub: HubServer, here: Path) -> None:  # noqa: F811
    share.push("demo", REMOTE, workspace=here, public=True)
    assert not hub.storage.repos[REPO].private


def test_second_push_sends_nothing(hub: HubServer, pushed: share.Pushed, here: Path) -> None:  # noqa: F811
    hub.log.clear()
    again = share.push("demo", REMOTE, workspace=here)
    assert (again.uri, again.sent, again.changed) == (pushed.uri, (), False)
    assert {exchange.method for exchange in hub.log} == {"GET"}


def test_dry_run_only_reads(hub: HubServer, here: Path) -> None:  # noqa: F811
    planned = share.push("demo", REMOTE, workspace=here, dry_run=True)
    assert planned.changed and len(planned.sent) == 4
    assert {exchange.method for exchange in hub.log} == {"GET"} and not hub.storage.repos


def test_push_that_lost_its_tag_is_completed(hub: HubServer, pushed: share.Pushed, here: Path) -> None:  # noqa: F811
    hub.storage.repos[REPO].tags.clear()
    again = share.push("demo", REMOTE, workspace=here)
    assert (again.uri, again.sent, again.changed) == (pushed.uri, (), True)
    assert "v0.1.0" in hub.storage.repos[REPO].tags


def test_large_files_go_in_parts(hub: HubServer, here: Path, there: Path) -> None:  # noqa: F811
    hub.multipart_above = 200
    share.push("demo", REMOTE, workspace=here)
    assert len(hub.sent("PUT", "/_lfs/part/")) > 1
    assert share.pull(REMOTE, workspace=there).new


def test_versions_are_tags(hub: HubServer, pushed: share.Pushed, here: Path, there: Path) -> None:  # noqa: F811
    make_adapter(here / "adapters", version="0.2.0", seed=1)
    later = share.push("demo", REMOTE, workspace=here)
    assert share.pull(REMOTE, workspace=there).location == later.uri
    for revision in ("0.1.0", "v0.1.0"):
        assert share.pull(f"{REMOTE}@{revision}", workspace=there).location == pushed.uri
    assert Workspace.find(there).store.versions("demo") == ["0.1.0", "0.2.0"]


def test_earlier_version_leaves_main_alone(hub: HubServer, pushed: share.Pushed, here: Path) -> None:  # noqa: F811
    make_adapter(here / "adapters", version="0.2.0", seed=1)
    make_adapter(here / "adapters", version="0.1.5", seed=2)
    later = share.push("demo@0.2.0", REMOTE, workspace=here)
    assert share.push("demo@0.1.0", REMOTE, workspace=here) == (pushed.uri, (), False)
    with pytest.raises(Conflict):
        share.push("demo@0.1.5", REMOTE, workspace=here)
    assert hub.storage.repos[REPO].branches["main"] == later.uri.partition("@")[2]


def test_files_of_an_earlier_version_go(hub: HubServer, pushed: share.Pushed, here: Path, there: Path) -> None:  # noqa: F811
    """An SAE or verdict that belongs to 0.1.0 would make 0.2.0 unreadable, or praise the wrong adapter."""
    hub.storage.advance(REPO, {"evals/old.json": b"{}", "sae/layers.1/cfg.json": b"{}", "notes.txt": b"the owner's own"})
    make_adapter(here / "adapters", version="0.2.0", seed=1)
    share.push("demo", REMOTE, workspace=here)
    assert set(hub.storage.tree(REPO)) == {".gitattributes", "notes.txt", WEIGHTS, CONFIG, MANIFEST, CARD}
    assert share.pull(REMOTE, workspace=there).new


def test_evaluations_of_others_stay(hub: HubServer, pushed: share.Pushed, here: Path, there: Path) -> None:  # noqa: F811
    hub.storage.advance(REPO, {"evals/theirs.json": b"{}"})
    (here / DEMO / "evals").mkdir()
    (here / DEMO / "evals/ours.json").write_text("{}")
    assert [entry.path for entry in share.push("demo", REMOTE, workspace=here).sent] == ["evals/ours.json"]
    assert hub.storage.repos[REPO].tags["v0.1.0"] == pushed.uri.partition("@")[2]
    folder = share.pull(REMOTE, workspace=there).adapter.folder
    assert sorted(path.name for path in (folder / "evals").iterdir()) == ["ours.json", "theirs.json"]


def test_tag_with_other_bytes_conflicts_before_any_commit(hub: HubServer, pushed: share.Pushed, there: Path) -> None:  # noqa: F811
    make_adapter(there / "adapters", seed=1)
    hub.log.clear()
    for dry_run in (True, False):
        with pytest.raises(Conflict):
            share.push("demo", REMOTE, workspace=there, dry_run=dry_run)
    assert {exchange.method for exchange in hub.log} == {"GET"}
    assert hub.storage.repos[REPO].tags["v0.1.0"] == pushed.uri.partition("@")[2]


def test_other_adapter_in_the_repository_conflicts(hub: HubServer, pushed: share.Pushed, here: Path) -> None:  # noqa: F811
    make_adapter(here / "adapters", name="other", version="0.2.0", seed=1)
    with pytest.raises(Conflict, match="demo"):
        share.push("other", REMOTE, workspace=here)


def test_tag_set_by_somebody_else_meanwhile_conflicts(hub: HubServer, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Between our look and our tag another process tags other bytes: the client says nothing, we do."""
    from resa_hub.remotes.hub import HubRemote

    commit = HubRemote._commit

    def overtaken(self: HubRemote, *arguments: object) -> str:
        ours = commit(self, *arguments)  # type: ignore[arg-type]
        hub.storage.repos[REPO].tags["v0.1.0"] = hub.storage.advance(REPO, {CONFIG: b"{}"})
        return ours

    monkeypatch.setattr(HubRemote, "_commit", overtaken)
    with pytest.raises(Conflict):
        share.push("demo", REMOTE, workspace=here)


def test_other_bytes_in_the_store_conflict(hub: HubServer, pushed: share.Pushed, there: Path) -> None:  # noqa: F811
    mine = scan(make_adapter(there / "adapters", seed=1))
    refused(Conflict, there)
    assert scan(there / DEMO) == mine


@pytest.mark.parametrize("path", [WEIGHTS, CONFIG, MANIFEST, CARD])
def test_tampered_bytes_are_refused_and_not_kept(hub: HubServer, pushed: share.Pushed, there: Path, path: str) -> None:  # noqa: F811
    hub.tamper(REPO, path)
    refused(Integrity, there)
    hub.storage.tampered.clear()
    assert share.pull(REMOTE, workspace=there).new


@pytest.mark.parametrize("path", ["../evil.json", "/evil.json", "evals/../../evil.json", "evals\\..\\evil.json", "C:evil.json"])
def test_paths_that_leave_the_repository_are_refused(hub: HubServer, pushed: share.Pushed, there: Path, path: str) -> None:  # noqa: F811
    hub.storage.advance(REPO, {path: b"{}"})
    refused(Integrity, there)
    assert not list(there.parent.rglob("evil*"))


@pytest.mark.parametrize("path", ["evil.pkl", "code.py", ".env", "evals/.hidden.json", "sae/layers.1/code.py"])
def test_other_names_are_never_fetched(hub: HubServer, pushed: share.Pushed, there: Path, path: str) -> None:  # noqa: F811
    hub.storage.advance(REPO, {path: b"evil"})
    folder = share.pull(REMOTE, workspace=there).adapter.folder
    assert not (folder / path).exists() and not hub.sent("GET", f"resolve/.*{path}")


def test_hostile_names() -> None:
    assert not any(map(is_hostile, ("README.md", "sae/layers.1/cfg.json", "a b.txt", "weights..bin")))
    assert all(map(is_hostile, ("..", "a/../b", "/a", "a//b", "a/", "./a", "a\\b", "C:/a", "a\nb", "")))


def test_oversized_listing_is_refused_before_a_download(hub: HubServer, pushed: share.Pushed, there: Path) -> None:  # noqa: F811
    tree = hub.storage.tree(REPO)
    tree[CARD] = tree[CARD]._replace(size=1 << 40)
    hub.log.clear()
    refused(Integrity, there)
    assert not hub.sent("GET", "/resolve/")


def test_tag_that_holds_another_version_is_refused(hub: HubServer, pushed: share.Pushed, there: Path) -> None:  # noqa: F811
    repo = hub.storage.repos[REPO]
    repo.tags["v0.3.0"] = repo.tags["v0.1.0"]
    refused(Integrity, there, f"{REMOTE}@0.3.0")


def test_repository_without_a_manifest_is_not_found(hub: HubServer, pushed: share.Pushed, there: Path) -> None:  # noqa: F811
    hub.storage.advance(REPO, {MANIFEST: None})
    refused(NotFound, there)


def test_deleted_repository_is_not_found_though_cached(hub: HubServer, pushed: share.Pushed, there: Path) -> None:  # noqa: F811
    share.pull(REMOTE, workspace=there)
    del hub.storage.repos[REPO]
    for ref in (REMOTE, pushed.uri):
        refused(NotFound, there.with_name("third"), ref)


@pytest.mark.parametrize("ref", ["hf:alice/absent", f"{REMOTE}@0.9.0", f"{REMOTE}@{'0' * 40}", f"{REMOTE}@branch"])
def test_what_is_not_there_is_not_found(hub: HubServer, pushed: share.Pushed, there: Path, ref: str) -> None:  # noqa: F811
    refused(NotFound, there, ref)


def test_dead_endpoint(hub: HubServer, pushed: share.Pushed, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    share.pull(REMOTE, workspace=there)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        refused(Network, there)
        with pytest.raises(Network):
            share.push("demo", REMOTE, workspace=here)


def test_one_cache_for_each_endpoint(hub: HubServer, pushed: share.Pushed, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """The same commit of the same name on another Hub: its bytes are asked for, not remembered."""
    share.pull(REMOTE, workspace=there)
    hub.log.clear()
    monkeypatch.setenv("HF_ENDPOINT", hub.url.replace("127.0.0.1", "localhost"))
    share.pull(REMOTE, workspace=there.with_name("third"))
    assert len(hub.sent("GET", "/resolve/")) == 4


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [(401, "", NotFound), (401, "GatedRepo", Network), (403, "", Network), (403, "GatedRepo", Network), (404, "RepoNotFound", NotFound),
     (404, "RevisionNotFound", NotFound), (404, "", NotFound), (429, "", Network), (500, "", Network), (503, "", Network), (NO_ANSWER, "", Network)],
)  # fmt: skip
def test_answers_to_a_pull(hub: HubServer, pushed: share.Pushed, there: Path, status: int, code: str, error: type[HubError]) -> None:  # noqa: F811
    hub.fail("GET", "/api/models/", status, code, times=99)
    refused(error, there)


@pytest.mark.parametrize(("status", "error"), [(403, Network), (404, NotFound), (NO_ANSWER, Network)])
def test_answers_to_a_download(hub: HubServer, pushed: share.Pushed, there: Path, status: int, error: type[HubError]) -> None:  # noqa: F811
    hub.fail("HEAD", "/resolve/", status, "EntryNotFound" if status == 404 else "", times=99)
    refused(error, there)


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [("POST", "/api/repos/create", 401, Network), ("POST", "/api/repos/create", 403, Network), ("POST", "/preupload/", 403, Network),
     ("PUT", "/_lfs/put/", 403, Network), ("POST", "/commit/", 400, Network), ("POST", "/commit/", 412, Conflict), ("POST", "/commit/", 429, Network),
     ("POST", "/commit/", 503, Network), ("POST", "/commit/", NO_ANSWER, Network), ("POST", "/tag/", 503, Network)],
)  # fmt: skip
def test_failed_push_can_be_repeated(hub: HubServer, here: Path, there: Path, method: str, path: str, status: int, error: type[HubError]) -> None:  # noqa: F811
    hub.fail(method, path, status)
    with pytest.raises(error) as raised:
        share.push("demo", REMOTE, workspace=here)
    assert type(raised.value) is error and raised.value.hint
    share.push("demo", REMOTE, workspace=here)
    assert share.pull(f"{REMOTE}@0.1.0", workspace=there).new


def test_commit_on_a_moved_head_conflicts(hub: HubServer, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    from huggingface_hub import HfApi

    create_commit = HfApi.create_commit

    def late(self: HfApi, *arguments: object, **named: object) -> object:
        hub.storage.advance(REPO, {"notes.txt": b"first"})
        return create_commit(self, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(HfApi, "create_commit", late)
    with pytest.raises(Conflict):
        share.push("demo", REMOTE, workspace=here)
    assert WEIGHTS not in hub.storage.tree(REPO)


def test_card_that_the_hub_refuses(hub: HubServer, here: Path) -> None:  # noqa: F811
    (here / DEMO / CARD).write_text("---\nlicense: [\n---\n")
    hub.fail("POST", "/api/validate-yaml", 400)
    with pytest.raises((RunFailed, Network)):
        share.push("demo", REMOTE, workspace=here)


def test_gated_and_private(hub: HubServer, pushed: share.Pushed, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    hub.storage.repos[REPO].gated = True
    monkeypatch.setenv("HF_TOKEN", OTHER_TOKEN)
    assert "restricted" in refused(Network, there).message
    monkeypatch.delenv("HF_TOKEN")
    refused(NotFound, there)
    monkeypatch.setenv("HF_TOKEN", "hf_unknown")
    assert "401" in refused(Network, there).message


def test_pushing_without_the_right(hub: HubServer, pushed: share.Pushed, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    make_adapter(here / "adapters", version="0.2.0", seed=1)
    monkeypatch.setenv("HF_TOKEN", OTHER_TOKEN)
    with pytest.raises(Network, match="403"):
        share.push("demo", REMOTE, workspace=here)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(Network, match="401"):
        share.push("demo", REMOTE, workspace=here)


def test_token_stays_with_its_host(hub: HubServer, pushed: share.Pushed, there: Path) -> None:  # noqa: F811
    hub.redirect_files = True
    hub.log.clear()
    assert share.pull(REMOTE, workspace=there).new
    fetched = [exchange for exchange in hub.log if exchange.host == "files"]
    assert fetched and not any(exchange.authorized for exchange in fetched)
    assert all(exchange.authorized for exchange in hub.log if exchange.host == "hub")


def test_tampering_behind_a_redirect_is_refused(hub: HubServer, pushed: share.Pushed, there: Path) -> None:  # noqa: F811
    hub.redirect_files = True
    hub.tamper(REPO, WEIGHTS)
    refused(Integrity, there)


def test_token_is_not_sent_in_the_clear(hub: HubServer, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    assert "plain http" in refused(Network, there).message
    monkeypatch.setenv("HF_ENDPOINT", "hub.invalid")
    refused(Usage, there)


def test_uploads_go_without_a_token_to_signed_addresses(hub: HubServer, pushed: share.Pushed) -> None:  # noqa: F811
    assert not any(exchange.authorized for exchange in hub.sent("PUT", "/_lfs/"))


def test_endpoint_that_is_no_hub(hub: HubServer, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("HF_ENDPOINT", hub.url + "/elsewhere")
    refused(NotFound, there)


@pytest.mark.parametrize("stray", [".env", "code.py", "weights.pkl"])
def test_nothing_else_lying_in_the_folder_is_sent(hub: HubServer, here: Path, stray: str) -> None:  # noqa: F811
    (here / DEMO / stray).write_text("secret")
    with pytest.raises(Integrity, match=stray):
        share.push("demo", REMOTE, workspace=here)
    assert not hub.log


def test_link_out_of_the_folder_is_not_followed(hub: HubServer, here: Path, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "secret").write_text("secret")
    (here / DEMO / CARD).unlink()
    (here / DEMO / CARD).symlink_to(tmp_path / "secret")
    with pytest.raises(Integrity):
        share.push("demo", REMOTE, workspace=here)
    assert not hub.log


def test_push_names_no_revision(hub: HubServer, here: Path) -> None:  # noqa: F811
    with pytest.raises(Usage):
        share.push("demo", f"{REMOTE}@main", workspace=here)


def test_xet_setting_is_given_back(hub: HubServer) -> None:  # noqa: F811
    from huggingface_hub import constants

    before = constants.HF_HUB_DISABLE_XET
    with hub_client(REMOTE):
        assert constants.HF_HUB_DISABLE_XET is True
    assert constants.HF_HUB_DISABLE_XET is before


def test_manifest_on_the_hub_is_the_one_pushed(hub: HubServer, pushed: share.Pushed) -> None:  # noqa: F811
    manifest = json.loads(hub.storage.get(hub.storage.tree(REPO)[MANIFEST].sha256))
    assert manifest["name"] == "demo" and str(RemoteRef.parse(pushed.uri)) == pushed.uri
