"""The workspace, what is kept beside it, and the environment variables that are set."""

import os
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from ..adapter.workspace import Workspace
from ..config.registry import read_layer
from ..config.remotes import RemoteRef
from ..core import plugins
from ..core.errors import HubError
from ..core.quantities import count, size
from .access import TOKENS, without_password
from .check import PROBLEM, WARNING, Check
from .free import held_locks
from .kept import DAY, KINDS, Item, find_kept

OLD_DAYS = 30
VARIABLES = {
    "RESA_HUB_WORKSPACE": "the workspace",
    "RESA_HUB_PLUGINS": "modules with rows for our tables",
    "RESA_HUB_STATE_SECONDS": "seconds between two states of a run",
    "HF_ENDPOINT": "the Hub",
    "HF_HOME": "where the Hub's client keeps its files",
    "HF_HUB_CACHE": "where the Hub's client keeps models",
    "HF_HUB_OFFLINE": "nothing is asked of the Hub",
    "HF_TOKEN": "the token",
    "HUGGING_FACE_HUB_TOKEN": "the token",
    "HTTPS_PROXY": "the way to the network",
    "HTTP_PROXY": "the way to the network",
    "NO_PROXY": "hosts that are asked directly",
    "SSL_CERT_FILE": "certificates that are trusted",
    "CUDA_VISIBLE_DEVICES": "the GPUs that are used",
    "OMP_NUM_THREADS": "threads of the processor",
    "NO_COLOR": "no colours",
}
"""Those that change what resa-hub does."""


def check_workspace(workspace: Workspace) -> list[Check]:
    """Where it is and why, whether it can be written, and whether all in it can be read."""
    return [
        Check("folder", f"{workspace.folder}: {workspace.reason}"),
        _writable(workspace.folder),
        *_adapters(workspace),
        *_registry(workspace),
        *_remote(workspace),
        *_plugins(),
        *_locks(workspace),
    ]


def _writable(folder: Path) -> Check:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if os.access(there, os.W_OK | os.X_OK):
        return Check("writing", "possible")
    return Check("writing", f"{there} can only be read", WARNING, "choose another --workspace, or mend its permissions")


def _adapters(workspace: Workspace) -> Iterator[Check]:
    good, bad = workspace.store.readable()
    names = len({adapter.manifest.name for adapter in good})
    told = f"{names}" + (f", in {len(good)} versions" if len(good) > names else "")
    yield Check("adapters", told if good else "none yet")
    for reference, error in bad:
        step = f"pull or make it again, or `resa-hub rm {reference}`"
        yield Check("unreadable", f"{reference}: {error.message}", PROBLEM, step)


def _registry(workspace: Workspace) -> Iterator[Check]:
    """Each file by itself: one mistake hides no other."""
    for layer, path in workspace.registry.layers:
        try:
            entries = sum(map(len, read_layer(path).values()))
        except HubError as error:
            yield Check(f"registry, {layer}", error.message, PROBLEM, error.hint)
        else:
            yield Check(f"registry, {layer}", f"{entries} names in {path}")


def _remote(workspace: Workspace) -> Iterator[Check]:
    """Where `push NAME` goes; a registry that cannot be read has been told of already."""
    try:
        setting = workspace.registry.entries["settings"].get("remote")
    except HubError:
        return
    if setting is None:
        yield Check("remote", "none is set", step="push NAME --to PLACE, or settings: {remote: PLACE} in registry.yaml")
        return
    try:
        ref = RemoteRef.parse(setting.value)
    except HubError as error:
        yield Check("remote", error.message, PROBLEM, error.hint)
        return
    if ref.scheme == "folder" and not Path(ref.location).expanduser().is_dir():
        yield Check("remote", f"{ref} is not there", WARNING, "make that folder, or mount its disk")
    else:
        yield Check("remote", str(ref))


def _plugins() -> Iterator[Check]:
    """Their rows; one that cannot be imported has ended the program before."""
    names = os.environ.get(plugins.VARIABLE, "")
    if not names:
        return
    rows = {table: len(plugins.rows(table)) for table in plugins.TABLES}
    told = ", ".join(f"{count} of {table}" for table, count in rows.items() if count)
    yield Check("plugins", f"{names}: {told or 'no rows'}")


def _locks(workspace: Workspace) -> Iterator[Check]:
    for path in held_locks(workspace):
        yield Check("at work", f"another process holds {path}")


def check_kept(workspace: Workspace) -> list[Check]:
    """The sizes of all that is kept beside the adapters; old unfinished runs are a warning."""
    groups = {kind: list(items) for kind, items in groupby(find_kept(workspace), key=lambda item: item.kind)}
    return [_kept(kind, items) for kind, items in groups.items()]


def _kept(kind: str, items: Sequence[Item]) -> Check:
    total = sum(item.bytes for item in items)
    value = f"{size(total)} in {count(len(items), 'thing')}: {KINDS[kind].about}"
    if kind == "remains":
        return Check(kind, value, step="resa-hub gc", bytes=total)
    if kind == "runs" and min(item.last_used for item in items) < time.time() - OLD_DAYS * DAY:
        step = f"finish them, or `resa-hub cache free runs --older-than {OLD_DAYS}d`"
        return Check(kind, f"{value}, some untouched for {OLD_DAYS} days", WARNING, step, bytes=total)
    return Check(kind, value, bytes=total)


def check_environment() -> list[Check]:
    """The variables that are set, passwords and tokens left out."""
    names = [name for name in VARIABLES if os.environ.get(name)]
    others = sorted(name for name in os.environ if name.startswith("RESA_HUB_") and name not in VARIABLES)
    unknown = [Check(name, "set, and read by nothing", WARNING, f"known: {', '.join(OURS)}") for name in others]
    return [Check(name, f"{_shown(name)}: {VARIABLES[name]}") for name in names] + unknown


OURS = [name for name in VARIABLES if name.startswith("RESA_HUB_")]


def _shown(name: str) -> str:
    return "set, not shown" if name in TOKENS else without_password(os.environ[name])
