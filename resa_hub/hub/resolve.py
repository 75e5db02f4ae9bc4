"""An adapter by any of its names: the store's, its content hash, or a remote's, which is fetched into the store."""

import contextlib
import re
from typing import NamedTuple

from ..adapter import fit as compat
from ..adapter import untrusted
from ..adapter.fit import Fit
from ..adapter.manifest import Manifest, read_manifest
from ..adapter.store import Adapter, Store
from ..adapter.verify import verify
from ..adapter.workspace import Workspace
from ..config.refs import VERSION, AdapterRef, ContentRef, ModelRef, RemoteRef, parse_adapter
from ..config.registry import Registry
from ..core.errors import Integrity, NoEffect, NotFound, Usage
from ..data.snapshots import Files
from . import signing
from .remote import open_remote


class PullResult(NamedTuple):
    adapter: Adapter
    location: str
    """Exactly where it came from: the commit, or the version in a folder."""
    new: bool
    """False when the store held this version already."""


def find(text: str, workspace: Workspace) -> Adapter:
    """The adapter that `NAME[@VERSION]`, `sha256:...` or a remote reference names; a remote's is fetched into the
    store.

    Raises `Usage`, `NotFound`, `Integrity`, and what `fetch` raises.
    """
    ref = parse_adapter(text)
    if isinstance(ref, RemoteRef):
        return fetch(ref, workspace).adapter
    return workspace.store.by_content(ref) if isinstance(ref, ContentRef) else workspace.store.get(ref)


def fetch(ref: RemoteRef, workspace: Workspace, *, sae: bool = True) -> PullResult:
    """Staged, every byte checked, then moved in whole; after a failure the store is as before. sae: False leaves the
    SAE out.

    Raises `NotFound`, `Integrity` (also where the policy asks for a signature that is not there), `Conflict` when the
    store has the version with other bytes,
    `Network` and `RunFailed`.
    """
    keys = signing.required(ref, workspace)
    with workspace.store.staging() as staged:
        location, checked = open_remote(ref).pull(staged, sae=sae)
        untrusted.check_files(staged)
        _check_asked(read_manifest(staged), ref, location)
        if keys:
            signing.check(staged, keys, location)
        adapter, new = workspace.store.add(staged, checked)
    return PullResult(adapter, location, new)


def _check_asked(manifest: Manifest, ref: RemoteRef, location: str) -> None:
    """Raise `Integrity` unless a pulled manifest is of the adapter that was asked for."""
    asked = ref.adapter or AdapterRef("")
    version = asked.version or (re.sub(r"^v", "", ref.revision) if ref.revision else None)
    if asked.name not in ("", manifest.name) or (
        version and VERSION.fullmatch(version) and version != manifest.version
    ):
        raise Integrity(f"{location} holds {manifest.reference}, not what {ref} names", "ask its author")


class Candidate(NamedTuple):
    adapter: Adapter
    fit: Fit


class Choice(NamedTuple):
    """An adapter for a target, before anything is fetched or loaded."""

    target: ModelRef
    target_name: str
    name: str | None
    """None: whichever adapter of the store fits."""
    why: str


def choose(name: str | None, target: str, registry: Registry) -> Choice:
    """What the names stand for; raises `NotFound` for an unknown target, `Usage` for one that is itself an adapter."""
    ref = registry.bare(target)
    if name:
        return Choice(ref, target, str(parse_adapter(name)), "named")
    entry = registry.model_entry(target)
    if entry and entry.default_adapter:
        return Choice(ref, target, entry.default_adapter, "the registry's default for this target")
    return Choice(ref, target, None, "whichever adapter of the store fits")


def candidates(store: Store, target: Files) -> list[Candidate]:
    """Every adapter of the store with its fit to a target, the latest version of each name, best first."""
    found = []
    for name in store.names():
        with contextlib.suppress(
            Integrity, NoEffect, NotFound
        ):  # `list` and `verify` tell of a broken one; it hides no other
            adapter = store.get(AdapterRef(name))
            found.append(
                Candidate(adapter, compat.assess(adapter.manifest.base, compat.read_lora(adapter.folder), target))
            )
    order = {"exact": 0, "kin": 1, "distant": 2, "foreign": 3}
    return sorted(found, key=lambda c: (order[c.fit.level], c.adapter.manifest.name))


def resolve(choice: Choice, workspace: Workspace) -> Adapter | None:
    """The adapter if the choice names one; raises `NotFound` naming extract and pull when the store does not have
    it.
    """
    if choice.name is None:
        if not workspace.store.names():
            raise NotFound(
                f"no adapter in {workspace.store.root}",
                "make one with `resa-hub extract`, or fetch one with `resa-hub pull`",
            )
        return None
    try:
        return find(choice.name, workspace)
    except NotFound as error:
        if choice.why == "named":
            raise
        raise NotFound(
            f"{choice.name}, {choice.why}, is not in the store ({error.message})",
            _how_to_get(choice.name, workspace.registry),
        ) from None


def _how_to_get(name: str, registry: Registry) -> str:
    recipe = f"`resa-hub extract --recipe {name}`" if name in registry.entries["recipes"] else "`resa-hub extract`"
    return f"make it with {recipe}, or fetch it with `resa-hub pull hf:OWNER/{name}`"


def fitting(
    choice: Choice, workspace: Workspace, target: Files, force: bool = False, *, zero: bool = False
) -> tuple[Adapter, Fit]:
    """The adapter and how it fits, checked byte for byte; raises `DoesNotFit`, `NoEffect`, `Integrity`, and `Usage`
    where several fit.

    zero: one whose weights are zero is taken too, as in `read_lora`.
    """
    adapter = resolve(choice, workspace)
    if adapter is None:
        usable = [c for c in candidates(workspace.store, target) if c.fit.usable]
        if not usable:
            raise NotFound(
                f"no adapter in {workspace.store.root} fits {choice.target_name}",
                "make one with `resa-hub extract`, or fetch one with `resa-hub pull`",
            )
        if len(usable) > 1:
            listed = ", ".join(f"{c.adapter.manifest.name} ({c.fit.level})" for c in usable)
            raise Usage(f"several adapters fit {choice.target_name}: {listed}", "name one of them")
        adapter = usable[0].adapter
    verify(adapter.folder)
    lora = compat.read_lora(adapter.folder, zero)
    fit = compat.assess(adapter.manifest.base, lora, target)._replace(zero=lora.zero)
    compat.require(fit, adapter.manifest.reference, choice.target_name, force)
    return adapter, fit
