"""The Hub's own client, used so that nothing is taken on trust.

Endpoint and token are checked, names are resolved to commits first, and every file is held against the digest that the
tree of its commit gives.
"""

import contextlib
import hashlib
import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from ..adapter.layout import ALLOWED
from ..adapter.manifest import Manifest
from ..adapter.store import version_key
from ..config.refs import VERSION
from ..core.errors import Conflict, Integrity, Network, RunFailed, Usage
from ..core.hub_errors import hub_errors
from .remote import PushResult
from .transfer import SHA256, Digest, check_listed, copy_verified

if TYPE_CHECKING:
    from huggingface_hub import HfApi
COMMIT = re.compile(r"[0-9a-f]{40}")
MAX_LISTED = 10_000
TRIES = 3
"""How often a push starts anew because main has moved meanwhile."""


class RemoteFile(NamedTuple):
    size: int
    digest: Digest
    """sha256 of a file in LFS, else the name that git gives its bytes."""


@contextlib.contextmanager
def hub_client(what: str) -> Iterator["HfApi"]:
    """The client for the endpoint of this moment; what it raises becomes ours.

    Raises `Usage` for an endpoint that is no URL, `Network` rather than send a token over an unencrypted line.
    """
    with hub_errors(what):
        from huggingface_hub import HfApi, constants, get_token

        # The client reads HF_ENDPOINT when it is imported, which may be long ago.
        endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
        url = urlsplit(endpoint)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise Usage(
                f"HF_ENDPOINT={endpoint!r} is not the address of a Hub",
                "write it like https://hub.example.org, or unset it",
            )
        if url.scheme == "http" and not is_loopback(url.hostname) and get_token():
            raise Network(
                f"{what}: the token is not sent over plain http to {url.hostname}",
                "use an https endpoint, or log out with `hf auth logout`",
            )
        with _without_xet():
            yield HfApi(endpoint=endpoint, library_name="resa-hub")


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextlib.contextmanager
def _without_xet() -> Iterator[None]:
    """Plain HTTP for our calls.

    With xet installed the client never asks whether the endpoint has it, and a Hub without it fails.
    HF_HUB_DISABLE_XET is read once, at the client's import; the constant it becomes is looked up at each call.
    """
    from huggingface_hub import constants

    before, constants.HF_HUB_DISABLE_XET = constants.HF_HUB_DISABLE_XET, True
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = before


def commit_of(api: "HfApi", repo: str, revision: str | None) -> str:
    """The commit that a branch, tag or commit names now: always asked, never remembered."""
    commit = api.model_info(repo, revision=revision).sha or ""
    if not COMMIT.fullmatch(commit):
        raise Network(f"{repo}: {api.endpoint} does not answer like a Hub", "check HF_ENDPOINT")
    return commit


def head_of(api: "HfApi", repo: str) -> str | None:
    """The commit of main; None when the repository does not exist."""
    from huggingface_hub import errors

    try:
        return commit_of(api, repo, None)
    except errors.GatedRepoError:
        raise
    except errors.RepositoryNotFoundError:
        return None


def head_or_new(api: "HfApi", repo: str, *, public: bool, dry_run: bool) -> str | None:
    """The commit of main, in a repository that is made where there is none; None where a dry run would have to make it.

    public: who may read a repository that is made here.
    """
    head = head_of(api, repo)
    if head is not None or dry_run:
        return head
    api.create_repo(repo, private=not public, exist_ok=True)
    return commit_of(api, repo, None)


class Moved(Exception):
    """The commit's parent is not the head any more."""


def retry_when_moved(repo: str, push: Callable[[], PushResult]) -> PushResult:
    """Run a push, anew where somebody else has committed meanwhile; raises `Conflict` after `TRIES`."""
    for _ in range(TRIES):
        with contextlib.suppress(Moved):
            return push()
    raise Conflict(
        f"{repo}: main moved {TRIES} times while this was pushed", "push again: it starts from the new state"
    )


def commit_files(
    api: "HfApi", repo: str, files: Mapping[str, Path | bytes], stale: Iterable[str], message: str, head: str
) -> str:
    """All changes as one commit on `head`; returns its id.

    files: path -> what to send. stale: paths to delete. Raises `Moved` when main has moved meanwhile, `RunFailed` when
    the Hub refuses what is sent.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, errors

    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationAdd(path_in_repo=path, path_or_fileobj=file) for path, file in files.items()
    ]
    operations += [CommitOperationDelete(path_in_repo=path) for path in stale]
    try:
        return api.create_commit(repo, operations, commit_message=message, revision="main", parent_commit=head).oid
    except errors.HfHubHTTPError as error:
        if getattr(error.response, "status_code", 0) in (409, 412):
            raise Moved from None
        raise
    except ValueError as error:
        # A refused model card or LFS batch comes as a plain ValueError.
        raise RunFailed(
            f"{repo}: the Hub refused the commit: {' '.join(str(error).split())}", "mend what it names, then push again"
        ) from None


def tags_of(api: "HfApi", repo: str) -> list[str]:
    return [ref.name for ref in api.list_repo_refs(repo).tags]


def newest_version(tags: Iterable[str]) -> str | None:
    versions = [tag[1:] for tag in tags if tag.startswith("v") and VERSION.fullmatch(tag[1:])]
    return max(versions, key=version_key, default=None)


def check_newest(repo: str, tags: Iterable[str], version: str) -> None:
    """Raise `Conflict` where a later version than this has its tag already: main belongs to it."""
    newest = newest_version(tags)
    if newest and version_key(newest) > version_key(version):
        raise Conflict(f"{repo} has the later version {newest}, which stands on main", f"push a version after {newest}")


def set_tag(api: "HfApi", repo: str, tag: str, commit: str, manifest: Manifest) -> None:
    """Set a version's tag, unless it exists: somebody else may have set it since it was looked for.

    The Hub keeps an existing tag without an error, so the caller has to compare what it points to afterwards.
    """
    api.create_tag(
        repo, tag=tag, revision=commit, tag_message=f"{manifest.reference} {manifest.content_hash}", exist_ok=True
    )


def other_bytes(repo: str, tag: str) -> Conflict:
    return Conflict(f"{tag} exists in {repo} with other bytes", "a version never changes: give yours another version")


def list_tree(api: "HfApi", repo: str, commit: str, below: str = "") -> dict[str, RemoteFile]:
    """The files of an adapter at a commit, sorted by path; files of other names are left out.

    below: the folder of an adapter that the repository stands for, as `sae/`.
    Raises `Integrity` for a path that leaves the repository, for a size out of bounds and for a digest that is none.
    """
    from huggingface_hub.hf_api import RepoFile

    where, files = f"{repo}@{commit[:12]}", {}
    for count, item in enumerate(api.list_repo_tree(repo, recursive=True, revision=commit)):
        if count >= MAX_LISTED:
            raise Integrity(f"{where} lists more than {MAX_LISTED} files", "it is not an adapter's repository")
        if is_hostile(item.path) or item.path in files:
            raise Integrity(f"{where} lists {item.path!r}, which is no path inside it", "do not use it: ask its author")
        if not isinstance(item, RepoFile) or not ALLOWED.fullmatch(below + item.path):
            continue
        digest = Digest("sha256", item.lfs.sha256) if item.lfs else Digest("git-blob", item.blob_id)
        if not isinstance(item.size, int) or not re.fullmatch(SHA256 if item.lfs else COMMIT, str(digest.value)):
            raise Integrity(f"{where} gives {item.path} no size or digest", "do not use it: ask its author")
        check_listed(below + item.path, item.size, where)
        files[item.path] = RemoteFile(item.size, digest)
    return dict(sorted(files.items()))


def is_hostile(path: str) -> bool:
    """A name that would lead out of the folder it is written to, on any system."""
    parts = re.split(r"[/\\]", path)
    return "\\" in path or ":" in parts[0] or any(part in ("", ".", "..") for part in parts) or not path.isprintable()


def fetch_file(api: "HfApi", repo: str, commit: str, path: str, file: RemoteFile, target: Path) -> None:
    """One file of a commit, through the client's cache, every byte checked.

    Raises `Integrity`, and removes the cached copy, where the bytes are not those of the tree.
    """
    cached = Path(api.hf_hub_download(repo, path, revision=commit, cache_dir=cache_folder(api.endpoint)))
    blob = cached.resolve()
    try:
        copy_verified(blob, target, file.size, file.digest, f"{path} of {repo}@{commit[:12]}")
    except Integrity:
        blob.unlink(missing_ok=True)
        cached.unlink(missing_ok=True)
        raise


def cache_folder(endpoint: str) -> Path:
    """One for each endpoint: the client's keys do not tell two Hubs apart."""
    return cache_root() / hashlib.sha256(endpoint.encode()).hexdigest()[:16]


def cache_root() -> Path:
    """This user's folder of files that `pull` fetched."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("resa-hub", appauthor=False)) / "hub"
