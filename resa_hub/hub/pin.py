"""`registry pin`: the commits that the registry's names stand for now, written into the workspace's registry.yaml."""

from typing import Any

import msgspec

from ..adapter.workspace import Workspace
from ..config.refs import DATA_SUFFIXES, HUB_ID, is_path
from ..config.registry import Registry, RegistryEntry
from ..config.registry_file import minimal_entry, update_registry, workspace_registry
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
    """Ask the Hub for the commit of each named entry (`all`, a name, or KIND:NAME), and write them into the registry.

    A model's base is pinned with it. An entry that the Hub does not give is reported and left as it is; what other
    processes write into the file meanwhile stays. Raises `NotFound` for an unknown name, `Network` when the Hub cannot
    be reached, `Usage` where the workspace's registry.yaml is the built-in one.
    """
    path = workspace_registry(workspace)
    pins = _ask_hub(entries_to_pin(names, workspace.registry))
    if not pins:
        raise Usage("nothing of this lies on the Hub", "embedded and local entries and packages need no pin")
    if not any(pin.revision for pin in pins):
        return pins
    with workspace.store.lock():
        # Somebody may have written while the Hub was asked: what stands there now is pinned, not what stood there.
        entries = Registry(workspace.folder).entries
        pins = [_still_valid(pin, entries[pin.kind].get(pin.name)) for pin in pins]
        fresh: dict[str, dict[str, Any]] = {}
        for pin in pins:
            if pin.revision:
                pinned = _with_revision(entries[pin.kind][pin.name].value, pin.revision)
                fresh.setdefault(pin.kind, {})[pin.name] = minimal_entry(pinned)
        if fresh:
            update_registry(path, fresh)
    return pins


def _ask_hub(entries: list[RegistryEntry]) -> list[Pin]:
    """The pin of each entry that lies on the Hub; every repository is asked for once."""
    commits: dict[tuple[str, str], str | HubError] = {}
    pins = []
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
        else:
            pins.append(Pin(entry.kind, entry.name, repo, commit))
    return pins


def _still_valid(pin: Pin, entry: RegistryEntry | None) -> Pin:
    """The pin, unless its name means another repository since the Hub was asked."""
    if entry and _repo(entry) == pin.id:
        return pin
    return Pin(pin.kind, pin.name, pin.id, None, f"{pin.name} was changed in registry.yaml meanwhile")


def entries_to_pin(names: list[str], registry: Registry) -> list[RegistryEntry]:
    """The entries that the names mean, each once, a model's base before it; raises `NotFound`."""
    chosen: dict[tuple[str, str], RegistryEntry] = {}
    for name in names:
        for entry in _entries_named(name, registry):
            if isinstance(entry.value, Model) and entry.value.base in registry.entries["models"]:
                base = registry.entries["models"][entry.value.base]
                chosen[base.kind, base.name] = base
            chosen[entry.kind, entry.name] = entry
    return list(chosen.values())


def _entries_named(text: str, registry: Registry) -> list[RegistryEntry]:
    """Those of `all`, NAME (in any section) or KIND:NAME."""
    kind, colon, rest = text.partition(":")
    sections = [section for section in KINDS if not colon or section in (kind, f"{kind}s")]
    candidates = [entry for section in sections for entry in registry.entries[section].values()]
    name = rest if colon else text
    named = [entry for entry in candidates if text == "all" or entry.name == name]
    if not named:
        known = [entry for section in KINDS for entry in registry.entries[section]]
        raise NotFound(
            f"the registry has no model, SAE, data set or benchmark {text!r}",
            did_you_mean(text, known) or "see `resa-hub registry`",
        )
    return named


def _repo(entry: RegistryEntry) -> str | None:
    """The id of the entry's repository on the Hub; None for what is embedded or local, and for a package."""
    value = entry.value
    repo = value.adapter.id if isinstance(value, Model) and value.adapter else value.id
    if repo is None or repo.startswith(tiny.PREFIX) or is_path(repo) or repo.endswith(DATA_SUFFIXES):
        return None
    return repo if HUB_ID.fullmatch(repo) else None


def _commit(kind: str, repo: str) -> str | HubError:
    """The commit of the main branch, or why the Hub does not give it.

    Raises `Network` when there is no Hub to ask: the next question would fail alike.
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


def _with_revision(value: Any, commit: str) -> Any:
    if isinstance(value, Model) and value.adapter:
        return msgspec.structs.replace(value, adapter=msgspec.structs.replace(value.adapter, revision=commit))
    return msgspec.structs.replace(value, revision=commit)
