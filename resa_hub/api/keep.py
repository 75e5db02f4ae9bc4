"""Keeping: `adapters`, `load`, `diff`, `tag`, `verify`."""

import os
from collections.abc import Sequence
from pathlib import Path

from ..adapter.diff import AdapterDiff, compare_adapters
from ..adapter.recorded import verdicts_of
from ..adapter.store import Adapter
from ..adapter.workspace import Workspace, WorkspaceLike
from ..config.refs import AdapterRef
from ..core.errors import Usage
from ..core.notebook import Listing
from ..hub.resolve import resolve_adapter
from ..inference.verify import check_adapter
from .choices import AdapterLike, reference, references


def adapters(
    *,
    base: str | None = None,
    method: str | None = None,
    verdict: str | None = None,
    workspace: WorkspaceLike = None,
) -> Listing[Adapter]:
    """The adapters of the store, by name and version.

    base: only those made on this model, a name of the registry or an id. method, verdict: only those of this method,
    or with this verdict on any target. What cannot be read is left out: `verify` tells of it.
    """
    opened = Workspace.find(workspace)
    model = opened.registry.model(base).base.id if base in opened.registry.entries["models"] else base

    def wanted(adapter: Adapter) -> bool:
        manifest = adapter.manifest
        stated = [each.rpartition(" on ")[0] for each in verdicts_of(adapter)] if verdict else []
        return (
            (base is None or manifest.base.id == model)
            and (method is None or manifest.method == method)
            and (verdict is None or verdict in stated)
        )

    return Listing(filter(wanted, opened.store.readable()[0]))


def load(name: str, *, workspace: WorkspaceLike = None) -> Adapter:
    """The adapter of any of its names: manifest and folder. One of a remote is fetched and checked.

    Raises `NotFound`, `Usage`, `Integrity`, `Network`.
    """
    return resolve_adapter(name, Workspace.find(workspace))


def diff(a: AdapterLike, b: AdapterLike, *, workspace: WorkspaceLike = None) -> AdapterDiff:
    """Two adapters side by side: settings, data, features, weights, verdicts.

    Raises `NotFound`, and `Integrity` for weights that cannot be read.
    """
    opened = Workspace.find(workspace)
    return compare_adapters(resolve_adapter(reference(a), opened), resolve_adapter(reference(b), opened))


def tag(
    name: AdapterLike, label: str | None = None, *, clear: bool = False, workspace: WorkspaceLike = None
) -> Adapter:
    """Give a version a label, by which `NAME@LABEL` then names it; a label moves from version to version.

    clear: take all labels of the version away. Raises `NotFound`, and `Usage` unless either is asked for.
    """
    if (label is None) != clear:
        raise Usage("give either a label or clear=True", 'tag("NAME@0.2.0", "best")')
    store = Workspace.find(workspace).store
    return store.label(store.locate(AdapterRef.parse(reference(name))), label)


def verify(
    names: AdapterLike | Sequence[AdapterLike] | None = None,
    *,
    deep: bool = False,
    keys: Sequence[str | os.PathLike[str]] = (),
    workspace: WorkspaceLike = None,
) -> dict[str, list[str]]:
    """Check every byte of adapters against their manifests; returns the remarks on each.

    names: all of the store without one. deep: also load each on its own base and hold its effect against the recorded
    one. keys: public keys (PEM), by one of which it must be signed. Raises the error of the first that fails:
    `Integrity`, `NoEffect`, `NotFound`, `Network`.
    """
    opened = Workspace.find(workspace)
    every = [f"{name}@{version}" for name in opened.store.names() for version in opened.store.versions(name)]
    checked, paths = {}, [Path(key) for key in keys]
    for name in every if names is None else references(names):
        adapter = resolve_adapter(name, opened)
        checked[adapter.manifest.reference] = check_adapter(adapter, opened, deep=deep, keys=paths)
    return checked
