"""`push` and `pull`: adapters between the store of a workspace and a remote."""

import os
import re
from typing import NamedTuple

from .adapter.manifest import Manifest, read_manifest
from .adapter.store import Adapter, verify
from .errors import Integrity, Usage
from .refs import VERSION, AdapterRef, RemoteRef
from .remotes.base import Pushed, open_remote
from .workspace import Workspace


class Pulled(NamedTuple):
    adapter: Adapter
    location: str
    """Exactly where it came from: the commit, or the version in a folder."""
    new: bool
    """False when the store held this version already."""


def push(name: str, to: str | None = None, *, workspace: str | os.PathLike[str] | None = None, public: bool = False, dry_run: bool = False) -> Pushed:
    """Send `NAME[@version]` of the store to a remote, checked before anything leaves; `to` None takes the setting `remote` of the registry.

    Raises `NotFound`, `Integrity` for a folder that is not as its manifest says, `Conflict` when the remote has the version with other bytes,
    `Network` and `RunFailed`.
    """
    here = Workspace.find(workspace)
    ref = _destination(to, here)
    adapter = here.store.get(AdapterRef.parse(name))
    verify(adapter.folder)
    return open_remote(ref).push(adapter, public=public, dry_run=dry_run)


def pull(ref: str, *, workspace: str | os.PathLike[str] | None = None) -> Pulled:
    """Fetch an adapter into the store: staged, every byte checked, then moved in whole; after a failure the store is as before.

    Raises `NotFound`, `Integrity`, `Conflict` when the store has the version with other bytes, `Network` and `RunFailed`.
    """
    remote_ref = RemoteRef.parse(ref)
    store = Workspace.find(workspace).store
    with store.staging() as staged:
        location = open_remote(remote_ref).pull(staged)
        _check_asked(read_manifest(staged), remote_ref, location)
        adapter, new = store.add(staged)
    return Pulled(adapter, location, new)


def _destination(to: str | None, workspace: Workspace) -> RemoteRef:
    setting = workspace.registry.entries["settings"].get("remote") if to is None else None
    text = setting.value if setting else to
    if not text:
        raise Usage("no remote is named", "add --to folder:PATH or --to hf:owner/name, or set `settings: {remote: ...}` in registry.yaml")
    ref = RemoteRef.parse(text)
    if ref.adapter or ref.revision:
        raise Usage(f"{text!r} names more than a place", f"push to {RemoteRef(ref.scheme, ref.location)}: the adapter brings its own name and version")
    return ref


def _check_asked(manifest: Manifest, ref: RemoteRef, location: str) -> None:
    """Raise `Integrity` unless a pulled manifest is of the adapter that was asked for."""
    asked = ref.adapter or AdapterRef("")
    version = asked.version or (re.sub(r"^v", "", ref.revision) if ref.revision else None)
    if asked.name not in ("", manifest.name) or (version and VERSION.fullmatch(version) and version != manifest.version):
        raise Integrity(f"{location} holds {manifest.reference}, not what {ref} names", "ask its author")
