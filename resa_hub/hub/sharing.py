"""`push` and `pull`: adapters between the store of a workspace and a remote."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ..adapter import card
from ..adapter.layout import CARD, SAE
from ..adapter.store import Adapter, lacks_sae
from ..adapter.verify import report_removal, verify_folder
from ..adapter.workspace import Workspace, WorkspaceLike
from ..config.remotes import RemoteRef
from ..core.errors import Usage
from ..core.files import read_bounded
from . import signing
from .remote import PushResult, SearchHit, open_remote
from .resolve import PullResult, fetch_adapter, resolve_adapter


def push(
    name: str,
    to: str | None = None,
    *,
    workspace: WorkspaceLike = None,
    public: bool = False,
    dry_run: bool = False,
    sae: bool = True,
    sign: str | os.PathLike[str] | None = None,
) -> PushResult:
    """Send an adapter (by any of its names) to a remote, checked before anything leaves.

    to: None takes the setting `remote` of the registry. sae: False leaves its SAE at home. sign: a private key to sign
    it with first. Raises `NotFound`, `Integrity` for a folder that is not as its manifest says, `Conflict` when the
    remote has the version with other bytes, `Network` and `RunFailed`.
    """
    opened = Workspace.find(workspace)
    ref = _destination(to, opened)
    adapter = resolve_adapter(name, opened)
    if public and ref.scheme in ("folder", "oci"):
        raise Usage(
            f"--public has no effect on {ref}: who may read it is decided there", "leave it out; it is for the Hub"
        )
    if sign:
        signing.check_key(Path(sign))
    remote = open_remote(ref)
    with report_removal(adapter.folder):
        verify_folder(adapter.folder, adapter.manifest.files if remote.hashes_what_it_sends else ())
        if sae and lacks_sae(adapter):
            raise Usage(
                f"{adapter.manifest.reference} is here without its SAE", "pull it whole first, or push with --no-sae"
            )
        if sign and not dry_run:
            signing.sign(adapter.folder, Path(sign))
        with _place_on_card(adapter, ref, opened, keep=not dry_run):
            return remote.push(adapter, public=public, dry_run=dry_run, sae=sae)


def push_with_sae_repo(
    name: str,
    to: str | None,
    sae_repo: str,
    *,
    workspace: WorkspaceLike = None,
    public: bool = False,
    dry_run: bool = False,
    sign: str | os.PathLike[str] | None = None,
) -> tuple[PushResult, PushResult]:
    """Send an adapter without its SAE to the Hub, and the SAE to a repository of its own (`owner/name`).

    The second's card names the first. After an interruption the same call completes what is missing. Raises what `push`
    does, and `Usage` where either place is none for this.
    """
    opened = Workspace.find(workspace)
    ref, repo = _destination(to, opened), RemoteRef.parse(f"hf:{sae_repo.removeprefix('hf:')}")
    if ref.scheme != "hf" or repo.revision or repo.location == ref.location:
        raise Usage(
            "an SAE goes apart from its adapter into another repository of the Hub",
            "--to hf:OWNER/NAME --sae-repo OWNER/OTHER-NAME",
        )
    adapter = resolve_adapter(name, opened)
    if lacks_sae(adapter) or not (adapter.folder / SAE).is_dir():
        raise Usage(
            f"{adapter.manifest.reference} has no SAE here",
            "made without one, or pulled without it: leave --sae-repo out, or pull it whole",
        )
    from .huggingface_sae import push_sae

    first = push(name, to, workspace=workspace, public=public, dry_run=dry_run, sae=False, sign=sign)
    return first, push_sae(adapter, repo, ref, public=public, dry_run=dry_run)


def pull(ref: str, *, workspace: WorkspaceLike = None, sae: bool = True) -> PullResult:
    """Fetch an adapter into the store: staged, every byte checked, then moved in whole.

    sae: False leaves its SAE out; a later pull brings it. After a failure the store is as before. Raises `NotFound`,
    `Integrity`, `Conflict` when the store has the version with other bytes, `Network` and `RunFailed`.
    """
    return fetch_adapter(RemoteRef.parse(ref), Workspace.find(workspace), sae=sae)


def search(
    where: str,
    *,
    base: str | None = None,
    tag: str | None = None,
    verdict: str | None = None,
    text: str = "",
    workspace: WorkspaceLike = None,
) -> list[SearchHit]:
    """The adapters of a remote (`hf:` without a name is the whole Hub) of a base model, with a tag, with a verdict.

    text: part of the name. What is found is what authors say: `pull` checks the bytes, `eval` the claims. Raises
    `NotFound`, `Network`.
    """
    registry = Workspace.find(workspace).registry
    base_id = registry.model(base).base.id if base and base in registry.entries["models"] else base
    ref = RemoteRef("hf", "") if where in ("hf", "hf:") else RemoteRef.parse(where)

    def wanted(hit: SearchHit) -> bool:
        return (
            (not base_id or hit.base == base_id)
            and (not tag or tag in hit.tags)
            and (not verdict or any(verdict == stated.partition(" on ")[0] for stated in hit.verdicts))
            and text.lower() in f"{hit.ref} {hit.name}".lower()
        )

    return [hit for hit in open_remote(ref).search(base=base_id, text=text) if wanted(hit)]


@contextlib.contextmanager
def _place_on_card(adapter: Adapter, ref: RemoteRef, workspace: Workspace, *, keep: bool) -> Iterator[None]:
    """The card says which repository of the Hub the adapter lies in; it is as it was after an error, and without
    `keep`: a dry run tells the bytes that would be sent.
    """
    path = adapter.folder / CARD
    present = read_bounded(path) if path.is_file() else b""
    text = card.placed(present.decode(errors="surrogateescape"), adapter.manifest, ref.location)
    named = text.encode(errors="surrogateescape")
    if ref.scheme != "hf" or named == present:
        yield
        return
    workspace.store.write(path, named)
    try:
        yield
    except BaseException:
        workspace.store.write(path, present)
        raise
    if not keep:
        workspace.store.write(path, present)


def _destination(to: str | None, workspace: Workspace) -> RemoteRef:
    """The place to push to, without an adapter or a revision; raises `Usage`."""
    setting = workspace.registry.entries["settings"].get("remote") if to is None else None
    text = setting.value if setting else to
    if not text:
        raise Usage(
            "no remote is named",
            "add --to folder:PATH or --to hf:owner/name, or set `settings: {remote: ...}` in registry.yaml",
        )
    ref = RemoteRef.parse(text)
    if ref.adapter or ref.revision:
        raise Usage(
            f"{text!r} names more than a place",
            f"push to {RemoteRef(ref.scheme, ref.location)}: the adapter brings its own name and version",
        )
    return ref
