"""What resa-hub keeps on this machine beside the adapters, kind by kind: where it lies, how large it is, and whether it
can be freed without loss.
"""

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..adapter.workspace import Workspace
from ..core.errors import Usage, did_you_mean
from ..hub.huggingface_client import cache_root
from .repositories import hub_cache

SAMPLES = "samples.sqlite"
UNFINISHED = re.compile(r".*\.(\d+)\.new")
"""A folder that a process of this number is writing, or was when it was killed."""
HOUR, DAY = 3_600, 86_400
UNITS = {"m": 60, "h": HOUR, "d": DAY, "w": 7 * DAY}
STAGED_SAE = re.compile(r"\..+\.[0-9a-f]{16}")


class Item(NamedTuple):
    """One thing that can be freed by itself."""

    kind: str
    name: str
    bytes: int
    """Disk that is free afterwards: what other files share is not counted."""
    last_used: float
    """Seconds since the epoch: the latest time that one of its files was read or written, as far as the file system
    notes it.
    """
    paths: tuple[Path, ...]


class Kind(NamedTuple):
    find: Callable[[Workspace], Iterator[Item]]
    about: str
    safe: bool
    """Freed where no kind is named."""
    why: str
    """What its loss would mean."""


def find_kept(workspace: Workspace, kinds: Iterable[str] | None = None) -> list[Item]:
    """The items of these kinds, of all without any, in the order of `KINDS`, the largest of a kind first.

    Raises `Usage` for an unknown kind.
    """
    wanted = list(KINDS) if kinds is None else check_kinds(kinds)
    found = {kind: sorted(KINDS[kind].find(workspace), key=lambda item: -item.bytes) for kind in wanted}
    return [item for items in found.values() for item in items]


def check_kinds(names: Iterable[str]) -> list[str]:
    """The kinds that these names mean, each once; raises `Usage`."""
    kinds = dict.fromkeys(ALIASES.get(name, name) for name in names)
    for kind in kinds:
        if kind not in KINDS:
            raise Usage(f"nothing of the kind {kind!r} is kept", did_you_mean(kind, list(KINDS)))
    return list(kinds)


def safe_kinds() -> list[str]:
    return [name for name, kind in KINDS.items() if kind.safe]


def not_used_for(items: Sequence[Item], age: str) -> list[Item]:
    """Those that nobody has read or written for `30d`, `12h`, `45m` or `2w`; raises `Usage` for another writing."""
    match = re.fullmatch(r"(\d{1,5})([mhdw])", age)
    if not match:
        raise Usage(f"{age!r} is no time", "write it like 30d, 12h or 2w")
    before = time.time() - int(match[1]) * UNITS[match[2]]
    return [item for item in items if item.last_used <= before]


def measure(*paths: Path) -> tuple[int, float]:
    """(bytes, last used) of files and folders; a file of several names counts once, links are not followed."""
    size, last_used, seen = 0, 0.0, set()
    for path in paths:
        for entry in _files(path):
            try:
                status = os.stat(entry, follow_symlinks=False)
            except FileNotFoundError:  # another process has just removed it
                continue
            last_used = max(last_used, status.st_mtime, status.st_atime)
            if status.st_ino not in seen:
                seen.add(status.st_ino)
                size += status.st_size
    return size, last_used


def _files(path: Path) -> Iterator[str]:
    if not path.is_dir() or path.is_symlink():
        if os.path.lexists(path):
            yield str(path)
        return
    for root, _, names in os.walk(path):
        yield from (os.path.join(root, name) for name in names)


def _item(kind: str, name: str, *paths: Path) -> Item:
    size, last_used = measure(*paths)
    return Item(kind, name, size, last_used or _made(paths[0]), paths)


def _made(path: Path) -> float:
    """When an empty folder was made."""
    return path.lstat().st_mtime if path.exists() else time.time()


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder of the cache, but for locks and for what is half written."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix not in (".lock", ".new", ".failed"))


def _folder(kind: str, name: str) -> Callable[[Workspace], Iterator[Item]]:
    """Finds each entry of one folder of the workspace's cache."""

    def find(workspace: Workspace) -> Iterator[Item]:
        return (_item(kind, path.name, path) for path in _entries(workspace.cache / name))

    return find


def _remains(workspace: Workspace) -> Iterator[Item]:
    root = workspace.store.root
    for path in workspace.store.remains():
        yield _item("remains", path.relative_to(workspace.folder).as_posix(), path)
    dead = [path for path in half_written(workspace) if not is_alive(path)]
    failed = sorted((workspace.cache / "harness").glob("*.failed"))
    damaged = sorted(workspace.cache.glob(f"{SAMPLES}.damaged-*"))
    for path in [*dead, *failed, *damaged, *_abandoned_saes(root.parent / "saes")]:
        yield _item("remains", path.relative_to(workspace.folder).as_posix(), path)


def half_written(workspace: Workspace) -> list[Path]:
    """Folders of the cache that bear the number of the process that writes them."""
    return sorted(path for path in workspace.cache.glob("*/*.new") if UNFINISHED.fullmatch(path.name))


def is_alive(path: Path) -> bool:
    """Whether the process that the name of a half-written folder tells still runs."""
    match = UNFINISHED.fullmatch(path.name)
    try:
        os.kill(int(match[1]) if match else 0, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _abandoned_saes(folder: Path) -> list[Path]:
    """Imports that were killed: their names tell no process, so they must have been left alone for a day."""
    if not folder.is_dir():
        return []
    staged = (path for path in folder.iterdir() if STAGED_SAE.fullmatch(path.name))
    return sorted(path for path in staged if time.time() - measure(path)[1] > DAY)


def _samples(workspace: Workspace) -> Iterator[Item]:
    paths = [workspace.cache / f"{SAMPLES}{suffix}" for suffix in ("", "-wal", "-shm")]
    if paths[0].is_file():
        yield _item("samples", SAMPLES, *paths)


def _results(workspace: Workspace) -> Iterator[Item]:
    for name in ("matrices", "sweeps"):
        for path in _entries(workspace.cache / name):
            yield _item("results", f"{name}/{path.name}", path)


def _repositories(kind: str, folders: Callable[[], Iterable[Path]]) -> Callable[[Workspace], Iterator[Item]]:
    """Finds each repository of caches that are laid out as the Hugging Face client's."""

    def find(_: Workspace) -> Iterator[Item]:
        for folder in folders():
            for path in sorted(folder.glob("*s--*")):
                yield _item(kind, path.name.replace("--", "/").removeprefix("models/"), path)

    return find


KINDS: dict[str, Kind] = {
    "remains": Kind(_remains, "left by removed adapters and killed processes", True, "nothing needs it"),
    "controls": Kind(
        _folder("controls", "controls"), "random adapters that others are judged against", True, "made again in seconds"
    ),
    "rollouts": Kind(
        _folder("rollouts", "rollouts"), "texts that models wrote for extractions", True, "made again, which takes time"
    ),
    "pulls": Kind(
        _repositories("pulls", lambda: sorted(cache_root().glob("*/"))),
        "files as `pull` fetched them",
        True,
        "the adapters are in the store",
    ),
    "runs": Kind(_folder("runs", "work"), "unfinished extractions", False, "the same command goes on from there"),
    "reproductions": Kind(
        _folder("reproductions", "reproduce"),
        "unfinished or kept reproductions",
        False,
        "the same command goes on from there",
    ),
    "samples": Kind(_samples, "answers of evaluations", False, "verdicts rest on them"),
    "harness": Kind(_folder("harness", "harness"), "logs of lm-eval and inspect", False, "verdicts rest on them"),
    "results": Kind(_results, "outcomes of matrices and sweeps", False, "reports show them"),
    "huggingface": Kind(
        _repositories("huggingface", lambda: [hub_cache()]),
        "models and data sets of the Hugging Face cache",
        False,
        "other programs share it",
    ),
}
"""The safe ones first."""
ALIASES = {"hf": "huggingface"}
