"""A Hub that lies, fails or is gone: each ends in the right error, and the store is as it was before."""

import socket
from pathlib import Path

import pytest

from resa_hub.adapter.layout import CARD, CONFIG, MANIFEST, WEIGHTS
from resa_hub.core.errors import Conflict, HubError, Integrity, Network, NotFound, RunFailed, Usage
from resa_hub.hub import sharing
from resa_hub.hub.huggingface_client import hub_client, is_hostile
from tests.helpers.adapters import make_adapter
from tests.helpers.hub_server.fixtures import DEMO, OTHER_TOKEN, REMOTE, REPO, refused
from tests.helpers.hub_server.server import NO_ANSWER, HubServer


@pytest.mark.parametrize("path", [WEIGHTS, CONFIG, MANIFEST, CARD])
def test_tampered_bytes_are_refused_and_not_kept(
    hub: HubServer, pushed: sharing.PushResult, there: Path, path: str
) -> None:
    hub.tamper(REPO, path)
    refused(Integrity, there)
    hub.storage.tampered.clear()
    assert sharing.pull(REMOTE, workspace=there).new


@pytest.mark.parametrize(
    "path", ["../evil.json", "/evil.json", "evals/../../evil.json", "evals\\..\\evil.json", "C:evil.json"]
)
def test_paths_that_leave_the_repository_are_refused(
    hub: HubServer, pushed: sharing.PushResult, there: Path, path: str
) -> None:
    hub.storage.advance(REPO, {path: b"{}"})
    refused(Integrity, there)
    assert not list(there.parent.rglob("evil*"))


@pytest.mark.parametrize("path", ["evil.pkl", "code.py", ".env", "evals/.hidden.json", "sae/layers.1/code.py"])
def test_other_names_are_never_fetched(hub: HubServer, pushed: sharing.PushResult, there: Path, path: str) -> None:
    hub.storage.advance(REPO, {path: b"evil"})
    folder = sharing.pull(REMOTE, workspace=there).adapter.folder
    assert not (folder / path).exists() and not hub.sent("GET", f"resolve/.*{path}")


def test_hostile_names() -> None:
    assert not any(map(is_hostile, ("README.md", "sae/layers.1/cfg.json", "a b.txt", "weights..bin")))
    assert all(map(is_hostile, ("..", "a/../b", "/a", "a//b", "a/", "./a", "a\\b", "C:/a", "a\nb", "")))


def test_oversized_listing_is_refused_before_a_download(
    hub: HubServer, pushed: sharing.PushResult, there: Path
) -> None:
    tree = hub.storage.tree(REPO)
    tree[CARD] = tree[CARD]._replace(size=1 << 40)
    hub.log.clear()
    refused(Integrity, there)
    assert not hub.sent("GET", "/resolve/")


def test_tag_that_holds_another_version_is_refused(hub: HubServer, pushed: sharing.PushResult, there: Path) -> None:
    repo = hub.storage.repos[REPO]
    repo.tags["v0.3.0"] = repo.tags["v0.1.0"]
    refused(Integrity, there, f"{REMOTE}@0.3.0")


def test_repository_without_a_manifest_is_not_found(hub: HubServer, pushed: sharing.PushResult, there: Path) -> None:
    hub.storage.advance(REPO, {MANIFEST: None})
    refused(NotFound, there)


def test_deleted_repository_is_not_found_though_cached(hub: HubServer, pushed: sharing.PushResult, there: Path) -> None:
    sharing.pull(REMOTE, workspace=there)
    del hub.storage.repos[REPO]
    for ref in (REMOTE, pushed.uri):
        refused(NotFound, there.with_name("third"), ref)


@pytest.mark.parametrize("ref", ["hf:alice/absent", f"{REMOTE}@0.9.0", f"{REMOTE}@{'0' * 40}", f"{REMOTE}@branch"])
def test_what_is_not_there_is_not_found(hub: HubServer, pushed: sharing.PushResult, there: Path, ref: str) -> None:
    refused(NotFound, there, ref)


def test_dead_endpoint(
    hub: HubServer, pushed: sharing.PushResult, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sharing.pull(REMOTE, workspace=there)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        refused(Network, there)
        with pytest.raises(Network):
            sharing.push("demo", REMOTE, workspace=here)


def test_one_cache_for_each_endpoint(
    hub: HubServer, pushed: sharing.PushResult, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same commit of the same name on another Hub: its bytes are asked for, not remembered."""
    sharing.pull(REMOTE, workspace=there)
    hub.log.clear()
    monkeypatch.setenv("HF_ENDPOINT", hub.url.replace("127.0.0.1", "localhost"))
    sharing.pull(REMOTE, workspace=there.with_name("third"))
    assert len(hub.sent("GET", "/resolve/")) == 4


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (401, "", Network),
        (401, "GatedRepo", Network),
        (403, "", Network),
        (403, "GatedRepo", Network),
        (404, "RepoNotFound", NotFound),
        (404, "RevisionNotFound", NotFound),
        (404, "", NotFound),
        (429, "", Network),
        (500, "", Network),
        (503, "", Network),
        (NO_ANSWER, "", Network),
    ],
)
def test_answers_to_a_pull(
    hub: HubServer, pushed: sharing.PushResult, there: Path, status: int, code: str, error: type[HubError]
) -> None:
    hub.fail("GET", "/api/models/", status, code, times=99)
    refused(error, there)


@pytest.mark.parametrize(("status", "error"), [(403, Network), (404, NotFound), (NO_ANSWER, Network)])
def test_answers_to_a_download(
    hub: HubServer, pushed: sharing.PushResult, there: Path, status: int, error: type[HubError]
) -> None:
    hub.fail("HEAD", "/resolve/", status, "EntryNotFound" if status == 404 else "", times=99)
    refused(error, there)


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("POST", "/api/repos/create", 401, Network),
        ("POST", "/api/repos/create", 403, Network),
        ("POST", "/preupload/", 403, Network),
        ("PUT", "/_lfs/put/", 403, Network),
        ("POST", "/commit/", 400, Network),
        ("POST", "/commit/", 429, Network),
        ("POST", "/commit/", 503, Network),
        ("POST", "/commit/", NO_ANSWER, Network),
        ("POST", "/tag/", 503, Network),
    ],
)
def test_failed_push_can_be_repeated(
    hub: HubServer, here: Path, there: Path, method: str, path: str, status: int, error: type[HubError]
) -> None:
    hub.fail(method, path, status)
    with pytest.raises(error) as raised:
        sharing.push("demo", REMOTE, workspace=here)
    assert type(raised.value) is error and raised.value.hint
    sharing.push("demo", REMOTE, workspace=here)
    assert sharing.pull(f"{REMOTE}@0.1.0", workspace=there).new


def test_a_commit_refused_at_every_try_conflicts(hub: HubServer, here: Path, there: Path) -> None:
    hub.fail("POST", "/commit/", 412, times=3)
    with pytest.raises(Conflict, match="3 times") as raised:
        sharing.push("demo", REMOTE, workspace=here)
    assert raised.value.hint and len(hub.sent("POST", "/commit/")) == 3
    sharing.push("demo", REMOTE, workspace=here)
    assert sharing.pull(REMOTE, workspace=there).new


def test_commit_on_a_moved_head_conflicts(hub: HubServer, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi

    create_commit = HfApi.create_commit

    def late(self: HfApi, *arguments: object, **named: object) -> object:
        hub.storage.advance(REPO, {"notes.txt": b"first"})
        return create_commit(self, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(HfApi, "create_commit", late)
    with pytest.raises(Conflict):
        sharing.push("demo", REMOTE, workspace=here)
    assert WEIGHTS not in hub.storage.tree(REPO)


def test_card_that_the_hub_refuses(hub: HubServer, here: Path) -> None:
    (here / DEMO / CARD).write_text("---\nlicense: [\n---\n")
    hub.fail("POST", "/api/validate-yaml", 400)
    with pytest.raises((RunFailed, Network)):
        sharing.push("demo", REMOTE, workspace=here)


def test_gated_and_private(
    hub: HubServer, pushed: sharing.PushResult, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = hub.storage.repos[REPO]
    repo.gated, repo.private = True, False
    monkeypatch.setenv("HF_TOKEN", OTHER_TOKEN)
    assert "restricted" in refused(Network, there).message
    monkeypatch.setenv("HF_TOKEN", "hf_unknown")
    assert "401" in refused(Network, there).message
    repo.private = True
    monkeypatch.setenv("HF_TOKEN", OTHER_TOKEN)
    assert "private" in refused(NotFound, there).message
    monkeypatch.delenv("HF_TOKEN")
    assert "401" in refused(Network, there).message


def test_pushing_without_the_right(
    hub: HubServer, pushed: sharing.PushResult, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_adapter(here / "adapters", version="0.2.0", seed=1)
    monkeypatch.setenv("HF_TOKEN", OTHER_TOKEN)
    with pytest.raises(Network, match="403"):
        sharing.push("demo", REMOTE, workspace=here)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(Network, match="401"):
        sharing.push("demo", REMOTE, workspace=here)


def test_token_stays_with_its_host(hub: HubServer, pushed: sharing.PushResult, there: Path) -> None:
    hub.redirect_files = True
    hub.log.clear()
    assert sharing.pull(REMOTE, workspace=there).new
    fetched = [exchange for exchange in hub.log if exchange.host == "files"]
    assert fetched and not any(exchange.authorized for exchange in fetched)
    assert all(exchange.authorized for exchange in hub.log if exchange.host == "hub")


def test_tampering_behind_a_redirect_is_refused(hub: HubServer, pushed: sharing.PushResult, there: Path) -> None:
    hub.redirect_files = True
    hub.tamper(REPO, WEIGHTS)
    refused(Integrity, there)


def test_token_is_not_sent_in_the_clear(hub: HubServer, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    assert "plain http" in refused(Network, there).message
    monkeypatch.setenv("HF_ENDPOINT", "hub.invalid")
    refused(Usage, there)


def test_uploads_go_without_a_token_to_signed_addresses(hub: HubServer, pushed: sharing.PushResult) -> None:
    assert not any(exchange.authorized for exchange in hub.sent("PUT", "/_lfs/"))


def test_endpoint_that_is_no_hub(hub: HubServer, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url + "/elsewhere")
    refused(NotFound, there)


@pytest.mark.parametrize("stray", [".env", "code.py", "weights.pkl"])
def test_nothing_else_lying_in_the_folder_is_sent(hub: HubServer, here: Path, stray: str) -> None:
    (here / DEMO / stray).write_text("secret")
    with pytest.raises(Integrity, match=stray):
        sharing.push("demo", REMOTE, workspace=here)
    assert not hub.log


def test_link_out_of_the_folder_is_not_followed(hub: HubServer, here: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (here / DEMO / CARD).unlink()
    (here / DEMO / CARD).symlink_to(tmp_path / "secret")
    with pytest.raises(Integrity):
        sharing.push("demo", REMOTE, workspace=here)
    assert not hub.log


def test_xet_setting_is_given_back(hub: HubServer) -> None:
    from huggingface_hub import constants

    before = constants.HF_HUB_DISABLE_XET
    with hub_client(REMOTE):
        assert constants.HF_HUB_DISABLE_XET is True
    assert constants.HF_HUB_DISABLE_XET is before
