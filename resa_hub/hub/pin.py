"""`registry pin`: the commits that the registry's names stand for now, written into the workspace's registry.yaml."""

from typing import Any

import msgspec

from ..adapter.workspace import Workspace
from ..config.refs import DATA_SUFFIXES, is_path
from ..config.registry import Registry, RegistryEntry
from ..config.registry_file import lean, own_file, write
from ..config.schema import Model
from ..core.errors import HubError, Network, NotFound, Usage, did_you_mean
from ..data import tiny
from .huggingface_client import hub_client

KINDS = {"models": "model", "saes": "model", "datasets": "dataset", "benchmarks": "dataset"}
"""Section -> what the Hub calls such a repository."""


class Pin(msgspec.Struct, frozen=True):
    kind: str
    name: str
    id: str
    revision: str | None
    """The commit; null where there is none."""
    error: str = ""


def pin(names: list[str], workspace: Workspace) -> list[Pin]:
    """Ask the Hub for the commit of each named entry (`all`, a name, or KIND:NAME) and write them; a model's base is
    pinned with it.

    An entry that the Hub does not give is told and left as it is; what other processes write into the file meanwhile
    stays. Raises `NotFound` for an unknown name, `Network` when the Hub cannot be reached, `Usage` where the
    workspace's registry.yaml is the built-in one.
    """
    path = own_file(workspace)
    entries = chosen(names, workspace.registry)
    commits: dict[tuple[str, str], str | HubError] = {}
    pins: list[Pin] = []
    for entry in entries:
        repo = _repo(entry)
        if repo is None:
            continue
        key = (KINDS[entry.kind], repo)
        if key not in commits:
            commits[key] = _commit(*key)
        commit = commits[key]
        if isinstance(commit, HubError):
            pins.append(Pin(entry.kind, entry.name, repo, None, commit.message))
            continue
        pins.append(Pin(entry.kind, entry.name, repo, commit))
    if not pins:
        raise Usage("nothing of this lies on the Hub", "embedded and local entries need no pin")
    if not any(made.revision for made in pins):
        return pins
    with workspace.store.lock():
        # Somebody may have written while the Hub was asked: what stands there now is pinned, not what stood there.
        now = Registry(workspace.folder).entries
        pins = [_still(made, now[made.kind].get(made.name)) for made in pins]
        fresh: dict[str, dict[str, Any]] = {}
        for made in pins:
            if made.revision:
                fresh.setdefault(made.kind, {})[made.name] = lean(
                    _pinned(now[made.kind][made.name].value, made.revision)
                )
        if fresh:
            write(path, fresh)
    return pins


def _still(made: Pin, now: RegistryEntry | None) -> Pin:
    """The pin, unless its name means another repository since the Hub was asked."""
    if now and _repo(now) == made.id:
        return made
    return Pin(made.kind, made.name, made.id, None, f"{made.name} was changed in registry.yaml meanwhile")


def chosen(names: list[str], registry: Registry) -> list[RegistryEntry]:
    """The entries that the names mean, each once, a model's base before it."""
    found: dict[tuple[str, str], RegistryEntry] = {}
    for name in names:
        kind, colon, rest = name.partition(":")
        wanted = [section for section in KINDS if not colon or section in (kind, f"{kind}s")]
        hits = [
            entry
            for section in wanted
            for entry in registry.entries[section].values()
            if name == "all" or entry.name == (rest if colon else name)
        ]
        if not hits:
            every = [entry for section in KINDS for entry in registry.entries[section]]
            raise NotFound(
                f"the registry has no model, SAE, data set or benchmark {name!r}",
                did_you_mean(name, every) or "see `resa-hub registry`",
            )
        for hit in hits:
            if isinstance(hit.value, Model) and hit.value.base in registry.entries["models"]:
                base = registry.entries["models"][hit.value.base]
                found[base.kind, base.name] = base
            found[hit.kind, hit.name] = hit
    return list(found.values())


def _repo(entry: RegistryEntry) -> str | None:
    """Where the Hub keeps it; None for what is embedded or local."""
    value = entry.value
    where = value.adapter.id if isinstance(value, Model) and value.adapter else value.id
    return (
        None
        if where is None or where.startswith(tiny.PREFIX) or is_path(where) or where.endswith(DATA_SUFFIXES)
        else where
    )


def _commit(kind: str, repo: str) -> str | HubError:
    """The commit of the main branch. Raises `Network` when there is no Hub to ask: the next question would fail
    alike.
    """
    try:
        with hub_client(repo) as api:
            commit = api.repo_info(repo, repo_type=kind).sha
    except Network as error:
        if "cannot be reached" in error.message or "not a Hub" in error.message:
            raise
        return error
    except HubError as error:
        return error
    return commit or NotFound(f"{repo}: the Hub names no commit", "try again later")


def _pinned(value: Any, commit: str) -> Any:
    if isinstance(value, Model) and value.adapter:
        return msgspec.structs.replace(value, adapter=msgspec.structs.replace(value.adapter, revision=commit))
    return msgspec.structs.replace(value, revision=commit)
