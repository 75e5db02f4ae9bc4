"""Reading files that a stranger may have made (size limits, no links but the Hub cache's own, no special files), and
flushing ours to disk.
"""

import hashlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import Integrity, NotFound, RunFailed, Usage

ASK_AUTHOR = "pull it again, or ask its author"
"""Hint for a file that is not what it should be."""
MAX_TEXT = 8 << 20
MAX_HEADER = 32 << 20
MAX_WEIGHTS = 64 << 30
COMMIT = re.compile(r"[0-9a-f]{40}")
"""As the Hub's client names the folder of a snapshot."""


def open_regular(path: Path):
    """Open for reading; raises `Integrity` unless it is a regular file, or a link of the Hub's cache to one."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(_behind_cache_link(path), flags)
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist", "check the name, or pull the adapter again") from None
    except OSError as error:
        raise Integrity(
            f"{path} cannot be read as a plain file: {error.strerror}", "links and devices are refused"
        ) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Integrity(f"{path} is not a regular file", "links, folders and devices are refused")
    return os.fdopen(descriptor, "rb")


def _behind_cache_link(path: Path) -> Path:
    """The blob that a link of the Hub client's cache stands for; any other path as it is, to be opened or refused.

    The client keeps `REPO/snapshots/COMMIT/...` as links into `REPO/blobs/`. Only such a link is one of the client's
    own: it leads out of no repository, and what it leads to must be a regular file.
    """
    if not os.path.islink(path):
        return path
    folder = Path(os.path.realpath(path.parent))
    blob = folder / os.readlink(path)
    for inside in (folder, *folder.parents):
        if inside.parent.name == "snapshots" and COMMIT.fullmatch(inside.name):
            blobs = inside.parent.parent / "blobs"
            return blobs / blob.name if os.path.realpath(blob.parent) == str(blobs) else path
    return path


def read_bounded(path: Path, limit: int = MAX_TEXT) -> bytes:
    """The bytes of a regular file; raises `Integrity` where there are more than `limit`."""
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Integrity(f"{path.name} is larger than {limit} bytes", "such a file is not part of an adapter")
    return data


def read_json(path: Path, limit: int = MAX_TEXT) -> Any:
    """Strict JSON: no duplicate keys, no NaN, bounded size and depth."""
    return parse_json(read_bounded(path, limit), path.name)


def parse_json(data: bytes, name: str) -> Any:
    """Strict JSON, as `read_json` reads it; raises `Integrity`, which names `name`."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("a key stands twice")
        return dict(pairs)

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(data, object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise Integrity(f"{name} is not valid JSON: {error}", ASK_AUTHOR) from None


def hash_file(path: Path) -> tuple[int, str]:
    """(size, sha256 in hex)."""
    with open_regular(path) as file:
        digest = hashlib.file_digest(file, "sha256")
        return os.fstat(file.fileno()).st_size, digest.hexdigest()


def walk(folder: Path) -> Iterator[str]:
    """Relative POSIX paths of all that lies below a folder, links included but never followed."""

    def stop(error: OSError) -> None:
        # A folder that vanishes meanwhile is not an empty one.
        raise RunFailed(f"cannot read {error.filename}: {error.strerror}", "check that it is there and may be read")

    for root, folders, names in os.walk(folder, onerror=stop, followlinks=False):
        links = [name for name in folders if os.path.islink(os.path.join(root, name))]
        for name in sorted(names + links):
            yield (Path(root) / name).relative_to(folder).as_posix()


def sync_files(folder: Path) -> None:
    """Make every file below a folder readable and flush it to the disk."""
    for root, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(root, name), "rb") as file:
                os.fchmod(file.fileno(), 0o644)  # safetensors writes for its owner alone
                os.fsync(file.fileno())
        sync_folder(Path(root))


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder, such as a rename, to the disk."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_free(folder: Path) -> None:
    """Raise `Usage` unless nothing, or an empty folder, is there."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Usage(f"{folder} exists and is not an empty folder", "name a new folder")


def check_can_hold(folder: Path) -> None:
    """Raise `RunFailed` where this folder can neither be made nor written; nothing stays behind."""
    nearest = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not nearest.is_dir():
        raise RunFailed(f"{folder} cannot be written: {nearest} is a file", "name a folder")
    try:
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:
        reason = f"{folder} cannot be written: {nearest} takes no files ({error.strerror})"
        raise RunFailed(reason, "name a folder that you may write") from None
