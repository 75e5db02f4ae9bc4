"""Where adapters are kept: `--workspace`, RESA_HUB_WORKSPACE, the nearest parent with `adapters/`, else here."""

import os
from functools import cached_property
from pathlib import Path

from ..config.registry import Registry
from ..core.errors import NotFound
from .store import Store


class Workspace:
    """A folder with a store, a registry and a cache.

    names_of: the workspace whose registry and adapters names mean here, where that is another one.
    reason: why it is this folder, in words.
    """

    def __init__(self, folder: Path, names_of: "Workspace | None" = None, reason: str = "") -> None:
        self.folder, self._names_of, self.reason = folder, names_of, reason

    @classmethod
    def find(cls, given: "WorkspaceLike" = None) -> "Workspace":
        """The workspace that is given, named by the environment, or nearest; raises `NotFound` where it is a file."""
        if isinstance(given, Workspace):
            return given
        path = given or os.environ.get("RESA_HUB_WORKSPACE")
        if path:
            folder = Path(path).expanduser()
            if folder.exists() and not folder.is_dir():
                raise NotFound(f"the workspace {folder} is not a folder", "name a folder with --workspace")
            return cls(folder.resolve(), reason="it was named" if given else "RESA_HUB_WORKSPACE names it")
        here = Path.cwd()
        for folder in (here, *here.parents):
            if (folder / "adapters").is_dir():
                return cls(folder, reason="the nearest folder with adapters/, from here upwards")
        return cls(here, reason="the current folder: no folder from here upwards has adapters/")

    @cached_property
    def registry(self) -> Registry:
        return self._names_of.registry if self._names_of else Registry(self.folder)

    @property
    def named(self) -> Store:
        """The store in which an adapter that a recipe names is looked for."""
        return self._names_of.store if self._names_of else self.store

    @cached_property
    def store(self) -> Store:
        return Store(self.folder / "adapters")

    @property
    def cache(self) -> Path:
        """Samples and control adapters: can be deleted at any time."""
        return self.folder / ".resa-hub"


WorkspaceLike = str | os.PathLike[str] | Workspace | None
"""A workspace as functions take it: found already, a folder, or None for the one that `Workspace.find` finds."""
