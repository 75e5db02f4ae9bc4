"""`push` and `pull`: adapters between the store of a workspace and a remote."""

import os

from .adapter.store import verify
from .adapters import Pulled, fetch, find
from .errors import Usage
from .refs import RemoteRef
from .remotes.base import Pushed, open_remote
from .workspace import Workspace


def push(name: str, to: str | None = None, *, workspace: str | os.PathLike[str] | None = None, public: bool = False, dry_run: bool = False) -> Pushed:
    """Send an adapter (by any of its names) to a remote, checked before anything leaves; `to` None takes the setting `remote` of the registry.

    Raises `NotFound`, `Integrity` for a folder that is not as its manifest says, `Conflict` when the remote has the version with other bytes,
    `Network` and `RunFailed`.
    """
    here = Workspace.find(workspace)
    ref = _destination(to, here)
    adapter = find(name, here)
    verify(adapter.folder)
    return open_remote(ref).push(adapter, public=public, dry_run=dry_run)


def pull(ref: str, *, workspace: str | os.PathLike[str] | None = None, sae: bool = True) -> Pulled:
    """Fetch an adapter into the store: staged, every byte checked, then moved in whole; after a failure the store is as before.

    sae: False leaves its SAE out; a later pull brings it. Raises `NotFound`, `Integrity`, `Conflict` when the store has the version with other bytes,
    `Network` and `RunFailed`.
    """
    return fetch(RemoteRef.parse(ref), Workspace.find(workspace), sae=sae)


def _destination(to: str | None, workspace: Workspace) -> RemoteRef:
    setting = workspace.registry.entries["settings"].get("remote") if to is None else None
    text = setting.value if setting else to
    if not text:
        raise Usage("no remote is named", "add --to folder:PATH or --to hf:owner/name, or set `settings: {remote: ...}` in registry.yaml")
    ref = RemoteRef.parse(text)
    if ref.adapter or ref.revision:
        raise Usage(f"{text!r} names more than a place", f"push to {RemoteRef(ref.scheme, ref.location)}: the adapter brings its own name and version")
    return ref
