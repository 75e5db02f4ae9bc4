"""An adapter by any of its names: the store's, its content hash, or a remote's, which is fetched into the store."""

import contextlib
from typing import NamedTuple

from ..adapter import untrusted
from ..adapter.fit import LEVELS, Fit, assess_fit, read_lora, require_fit
from ..adapter.manifest import Manifest, read_manifest
from ..adapter.store import Adapter, Store
from ..adapter.verify import verify_folder
from ..adapter.workspace import Workspace
from ..config.refs import VERSION, AdapterRef, ContentRef, ModelRef
from ..config.registry import Registry
from ..config.remotes import RemoteRef, parse_adapter
from ..core.errors import Integrity, NoEffect, NotFound, Usage
from ..core.notebook import card, line
from ..data.snapshots import Files
from . import signing
from .remote import open_remote

GET_ONE = "make one with `resa-hub extract`, or fetch one with `resa-hub pull`"


class PullResult(NamedTuple):
    adapter: Adapter
    location: str
    """Exactly where it came from: the commit, or the version in a folder."""
    new: bool
    """False when the store held this version already."""

    def __repr__(self) -> str:
        present = "" if self.new else ", which was here already"
        return line("PullResult", f"{self.adapter.manifest.reference} from {self.location}{present}")

    def _repr_html_(self) -> str:
        told = {
            "from": self.location,
            "identity": self.adapter.manifest.content_hash,
            "folder": str(self.adapter.folder),
            "was here": "" if self.new else "yes",
        }
        return card(f"Pulled {self.adapter.manifest.reference}", told)


def resolve_adapter(text: str, workspace: Workspace) -> Adapter:
    """The adapter that `NAME[@VERSION]`, `sha256:...` or a remote reference names.

    That of a remote is fetched into the store. Raises `Usage`, `NotFound`, `Integrity`, and as `fetch_adapter` does.
    """
    ref = parse_adapter(text)
    if isinstance(ref, RemoteRef):
        return fetch_adapter(ref, workspace).adapter
    return workspace.store.by_content(ref) if isinstance(ref, ContentRef) else workspace.store.get(ref)


def fetch_adapter(ref: RemoteRef, workspace: Workspace, *, sae: bool = True) -> PullResult:
    """Fetch an adapter into the store: staged, every byte checked, then moved in whole.

    sae: False leaves the SAE out. After a failure the store is as before. Raises `NotFound`, `Integrity` (also where
    the policy asks for a signature that is not there), `Conflict` when the store has the version with other bytes,
    `Network` and `RunFailed`.
    """
    keys = signing.required(ref, workspace)
    with workspace.store.staging() as staged:
        location, checked = open_remote(ref).pull(staged, sae=sae)
        untrusted.check_files(staged)
        _check_requested(read_manifest(staged), ref, location)
        if keys:
            signing.check(staged, keys, location)
        adapter, new = workspace.store.add(staged, checked)
    return PullResult(adapter, location, new)


def _check_requested(manifest: Manifest, ref: RemoteRef, location: str) -> None:
    """Raise `Integrity` unless a pulled manifest is of the adapter that was asked for."""
    requested = ref.adapter or AdapterRef("")
    version = requested.version or (ref.revision or "").removeprefix("v")
    other_name = requested.name not in ("", manifest.name)
    if other_name or (VERSION.fullmatch(version) and version != manifest.version):
        raise Integrity(f"{location} holds {manifest.reference}, not what {ref} names", "ask its author")


class FittedAdapter(NamedTuple):
    adapter: Adapter
    fit: Fit


class AdapterChoice(NamedTuple):
    """The adapter that is wanted on a target, before anything is fetched or loaded."""

    target: ModelRef
    target_name: str
    name: str | None
    """None: whichever adapter of the store fits."""
    why: str
    """`named`, or in words why it is this one."""


def choose_adapter(name: str | None, target: str, registry: Registry) -> AdapterChoice:
    """What the names stand for; raises `NotFound` for an unknown target, `Usage` for one that is itself an adapter."""
    ref = registry.require_base_model(target)
    if name:
        return AdapterChoice(ref, target, str(parse_adapter(name)), "named")
    entry = registry.model_entry(target)
    if entry and entry.default_adapter:
        return AdapterChoice(ref, target, entry.default_adapter, "the registry's default for this target")
    return AdapterChoice(ref, target, None, "whichever adapter of the store fits")


def chosen_adapter(choice: AdapterChoice, workspace: Workspace) -> Adapter | None:
    """The adapter that a choice names, fetched where it lies elsewhere; None where it names none.

    Raises `NotFound`, naming extract and pull, when the store does not have it.
    """
    if choice.name is None:
        if not workspace.store.names():
            raise NotFound(f"no adapter in {workspace.store.root}", GET_ONE)
        return None
    try:
        return resolve_adapter(choice.name, workspace)
    except NotFound as error:
        if choice.why == "named":
            raise
        recipe = f" --recipe {choice.name}" if choice.name in workspace.registry.entries["recipes"] else ""
        hint = f"make it with `resa-hub extract{recipe}`, or fetch it with `resa-hub pull hf:OWNER/{choice.name}`"
        if others := _made_on(choice.target, workspace.store):
            hint = f"name one that was made on it: {', '.join(others)}; or {hint}"
        raise NotFound(f"{choice.name}, {choice.why}, is not in the store ({error.message})", hint) from None


def _made_on(target: ModelRef, store: Store) -> list[str]:
    """The names of the adapters whose base has the target's id."""
    return sorted({each.manifest.name for each in store.readable()[0] if each.manifest.base.id == target.base.id})


def adapters_by_fit(store: Store, target: Files) -> list[FittedAdapter]:
    """Every adapter of the store with its fit to a target, the latest version of each name, best first."""
    fitted = []
    for name in store.names():
        # A broken adapter hides no other; `list` and `verify` report it.
        with contextlib.suppress(Integrity, NoEffect, NotFound):
            adapter = store.get(AdapterRef(name))
            fit = assess_fit(adapter.manifest.base, read_lora(adapter.folder), target)
            fitted.append(FittedAdapter(adapter, fit))
    return sorted(fitted, key=lambda each: (LEVELS.index(each.fit.level), each.adapter.manifest.name))


def fitting_adapter(
    choice: AdapterChoice, workspace: Workspace, target: Files, force: bool = False, *, zero: bool = False
) -> FittedAdapter:
    """The adapter of a choice, or the only one of the store that fits, checked byte for byte.

    force: as in `require_fit`. zero: one whose weights are zero is taken too, as in `read_lora`. Raises `DoesNotFit`,
    `NoEffect`, `Integrity`, `NotFound` where none fits, and `Usage` where several do.
    """
    adapter = chosen_adapter(choice, workspace) or _only_fitting(choice.target_name, workspace.store, target)
    verify_folder(adapter.folder)
    lora = read_lora(adapter.folder, zero)
    fit = assess_fit(adapter.manifest.base, lora, target)._replace(zero=lora.zero)
    require_fit(fit, adapter.manifest.reference, choice.target_name, force)
    return FittedAdapter(adapter, fit)


def _only_fitting(target_name: str, store: Store, target: Files) -> Adapter:
    usable = [each for each in adapters_by_fit(store, target) if each.fit.usable]
    if not usable:
        raise NotFound(f"no adapter in {store.root} fits {target_name}", GET_ONE)
    if len(usable) > 1:
        listed = ", ".join(f"{each.adapter.manifest.name} ({each.fit.level})" for each in usable)
        raise Usage(f"several adapters fit {target_name}: {listed}", "name one of them")
    return usable[0].adapter
