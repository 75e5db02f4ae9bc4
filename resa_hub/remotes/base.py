"""What every remote can do, and how a reference finds its remote."""

import importlib
from pathlib import Path
from typing import NamedTuple, Protocol

from ..adapter.files import FileEntry
from ..adapter.store import Adapter
from ..refs import RemoteRef

REMOTES = {"folder": "folder:FolderRemote", "hf": "hub:HubRemote"}
"""Scheme -> module and class: a new remote is one file and one line here."""


class Pushed(NamedTuple):
    """What a push did, or would do when it was a dry run."""

    uri: str
    """Names exactly what is now there: `pull` takes it."""
    sent: tuple[FileEntry, ...]
    changed: bool
    """False when the remote held all of it already."""


class Remote(Protocol):
    """One place, opened by a reference."""

    def push(self, adapter: Adapter, *, public: bool, dry_run: bool) -> Pushed:
        """Send what the remote lacks; raises `Conflict` when the version exists there with other bytes."""
        ...

    def pull(self, staging: Path, *, sae: bool = True) -> str:
        """Fill the empty folder `staging`, without the SAE where none is wanted, and return the exact location.

        Raises `NotFound`, and `Integrity` for bytes that differ.
        """
        ...


def open_remote(ref: RemoteRef) -> Remote:
    """The remote of a reference. Nothing is read or sent yet."""
    module, _, name = REMOTES[ref.scheme].partition(":")
    return getattr(importlib.import_module(f".{module}", __package__), name)(ref)
