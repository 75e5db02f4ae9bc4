"""An adapter by any of its names: the store's, its content hash, or a remote's, which is fetched into the store."""

import re
from typing import NamedTuple

from .adapter.manifest import Manifest, read_manifest
from .adapter.store import Adapter
from .errors import Integrity
from .refs import VERSION, AdapterRef, ContentRef, RemoteRef, parse_adapter
from .remotes.base import open_remote
from .workspace import Workspace


class Pulled(NamedTuple):
    adapter: Adapter
    location: str
    """Exactly where it came from: the commit, or the version in a folder."""
    new: bool
    """False when the store held this version already."""


def find(text: str, home: Workspace) -> Adapter:
    """The adapter that `NAME[@VERSION]`, `sha256:...` or a remote reference names; a remote's is fetched into the store.

    Raises `Usage`, `NotFound`, `Integrity`, and what `fetch` raises.
    """
    ref = parse_adapter(text)
    if isinstance(ref, RemoteRef):
        return fetch(ref, home).adapter
    return home.store.by_content(ref) if isinstance(ref, ContentRef) else home.store.get(ref)


def fetch(ref: RemoteRef, home: Workspace, *, sae: bool = True) -> Pulled:
    """Staged, every byte checked, then moved in whole; after a failure the store is as before. sae: False leaves the SAE out.

    Raises `NotFound`, `Integrity`, `Conflict` when the store has the version with other bytes, `Network` and `RunFailed`.
    """
    with home.store.staging() as staged:
        location = open_remote(ref).pull(staged, sae=sae)
        _check_asked(read_manifest(staged), ref, location)
        adapter, new = home.store.add(staged)
    return Pulled(adapter, location, new)


def _check_asked(manifest: Manifest, ref: RemoteRef, location: str) -> None:
    """Raise `Integrity` unless a pulled manifest is of the adapter that was asked for."""
    asked = ref.adapter or AdapterRef("")
    version = asked.version or (re.sub(r"^v", "", ref.revision) if ref.revision else None)
    if asked.name not in ("", manifest.name) or (version and VERSION.fullmatch(version) and version != manifest.version):
        raise Integrity(f"{location} holds {manifest.reference}, not what {ref} names", "ask its author")
