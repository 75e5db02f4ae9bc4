"""Freeing what is kept: never under the hands of a process that works with it."""

import os
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from ..adapter.workspace import Workspace
from ..core.errors import Conflict, RunFailed
from .kept import SAMPLES, Item, half_written, is_alive
from .repositories import delete_repository

FREE_OF_WORK = ("remains", "pulls", "huggingface", "results")
"""Kinds that no process at work can be using."""


def free(items: Sequence[Item], workspace: Workspace) -> int:
    """Delete these items; returns their bytes.

    Raises `Conflict` where another process is at work with things of their kind (nothing is deleted then), and
    `RunFailed` where the disk refuses.
    """
    check_idle(items, workspace)
    collected = [path for item in items for path in item.paths if path.is_relative_to(workspace.store.root)]
    if collected:
        workspace.store.collect(collected)
    for item in items:
        for path in item.paths:
            _delete(item.kind, path)
    return sum(item.bytes for item in items)


def check_idle(items: Sequence[Item], workspace: Workspace) -> None:
    """Raise `Conflict` where another process may be working with one of these items."""
    working = at_work(workspace) if any(item.kind not in FREE_OF_WORK for item in items) else ""
    if working:
        raise Conflict(f"nothing is freed while {working}", "wait for it to end, or end it")


def _delete(kind: str, path: Path) -> None:
    if kind in ("pulls", "huggingface"):
        return delete_repository(path)
    try:
        if not path.is_dir() or path.is_symlink():
            return path.unlink(missing_ok=True)
        # Gone at once by a rename: half a folder must never be taken for a whole one.
        doomed = path.with_name(f"{path.name}.{os.getpid()}.new")
        os.rename(path, doomed)
        shutil.rmtree(doomed)
    except FileNotFoundError:
        return  # somebody else was faster
    except OSError as error:
        raise RunFailed(f"cannot remove {path}: {error.strerror}", "check its permissions") from None


def at_work(workspace: Workspace) -> str:
    """What another process does in this workspace, in words; empty where none is at work."""
    held = held_locks(workspace)
    if held:
        return f"another process holds {held[0]}"
    if _is_open_elsewhere(workspace.cache / SAMPLES):
        return f"an evaluation is using {workspace.cache / SAMPLES}"
    writing = next((path for path in half_written(workspace) if is_alive(path)), None)
    return f"another process is writing {writing}" if writing else ""


def held_locks(workspace: Workspace) -> list[Path]:
    """The locks of extractions and of rollouts that a living process holds."""
    import filelock

    held = []
    for path in sorted(workspace.cache.glob("*/*.lock")):
        try:
            filelock.FileLock(path, timeout=0).acquire().lock.release()
        except filelock.Timeout:
            held.append(path)
        except OSError:  # another user's, or a folder that can only be read
            continue
    return held


def _is_open_elsewhere(path: Path) -> bool:
    """Whether another process has the file of samples open: then nobody gets it for himself alone."""
    if not path.is_file():
        return False
    db = sqlite3.connect(path, timeout=0)
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    except sqlite3.DatabaseError:  # damaged: no evaluation can use it either
        return False
    finally:
        db.close()
    return False
