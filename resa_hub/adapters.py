"""An adapter by any of its names: the store's, its content hash, or a remote's, which is fetched into the store."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from . import signing
from .adapter import compat, hostile
from .adapter.manifest import Manifest, read_manifest
from .adapter.store import Adapter, lacks_sae
from .adapter.verify import verify
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

    Raises `NotFound`, `Integrity` (also where the policy asks for a signature that is not there), `Conflict` when the store has the version with other bytes,
    `Network` and `RunFailed`.
    """
    keys = signing.required(ref, home)
    with home.store.staging() as staged:
        location, checked = open_remote(ref).pull(staged, sae=sae)
        hostile.inspect(staged)
        _check_asked(read_manifest(staged), ref, location)
        if keys:
            signing.check(staged, keys, location)
        adapter, new = home.store.add(staged, checked)
    return Pulled(adapter, location, new)


def check(adapter: Adapter, home: Workspace, *, deep: bool = False, keys: Sequence[Path] = ()) -> list[str]:
    """Every byte against the manifest, the signature where keys are given; deep: also loaded on its own base, where its effect must be the recorded one,
    and its SAE by SAELens. Returns what else can be said. Raises `Integrity`, `NoEffect`, and `NotFound` or `Network` where the base is not to be had."""
    m, said = verify(adapter.folder), []
    compat.read_lora(adapter.folder)
    if lacks_sae(adapter):
        said.append("without its SAE")
    if keys:
        said.append(f"signed by {signing.check(adapter.folder, keys, m.reference)}")
    if deep:
        said += _deep(adapter, home)
    return said


def _deep(adapter: Adapter, home: Workspace) -> list[str]:
    from .attach import attach
    from .engine.sae.files import check_readable

    m = adapter.manifest
    revision = f"@{m.base.revision}" if re.fullmatch(r"[0-9a-f]{40}", m.base.revision) else ""
    done = attach(m.reference, target=m.base.id + revision, workspace=home.folder)
    if m.base.weights and done.fit.level != "exact":
        raise Integrity(f"{m.base.id} is not the base that {m.reference} was made on: {done.fit.reason}", "name the right revision in the registry")
    saes = [path.parent for path in sorted(adapter.folder.glob("sae/*/cfg.json"))]
    for folder in saes:
        check_readable(folder)
    return [f"KL {done.proof.kl:.4g} on its base", *[f"SAE {folder.name} loads" for folder in saes]]


def _check_asked(manifest: Manifest, ref: RemoteRef, location: str) -> None:
    """Raise `Integrity` unless a pulled manifest is of the adapter that was asked for."""
    asked = ref.adapter or AdapterRef("")
    version = asked.version or (re.sub(r"^v", "", ref.revision) if ref.revision else None)
    if asked.name not in ("", manifest.name) or (version and VERSION.fullmatch(version) and version != manifest.version):
        raise Integrity(f"{location} holds {manifest.reference}, not what {ref} names", "ask its author")
