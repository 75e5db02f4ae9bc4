"""Copying files whose digest is known: it is computed while the bytes pass."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..adapter.layout import ALLOWED, FileEntry, limit_of
from ..core.errors import HubError, Integrity, NotFound, RunFailed
from ..core.files import open_regular

CHUNK = 4 << 20
SHA256 = r"[0-9a-f]{64}"


class Digest(NamedTuple):
    kind: Literal["sha256", "git-blob"]
    """git-blob: sha1 over git's header and the content, as a git tree names it."""
    value: str

    def hasher(self, size: int) -> Any:
        """A fresh hash object of this kind for a file of `size` bytes."""
        if self.kind == "sha256":
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def sha256_of(entry: FileEntry) -> Digest:
    return Digest("sha256", entry.sha256)


def check_listed(path: str, size: int, where: str) -> None:
    """Raise `Integrity` unless a listing may name this file: on the allow-list and of bounded size."""
    if not ALLOWED.fullmatch(path):
        raise Integrity(
            f"{where} lists {path!r}, which does not belong into an adapter", "do not use it: ask its author"
        )
    if not 0 <= size <= limit_of(path):
        raise Integrity(
            f"{where} lists {path!r} with {size} bytes, more than such a file may have", "do not use it: ask its author"
        )


def matches(path: Path, size: int, digest: Digest) -> bool:
    """Is there a regular file with exactly these bytes?"""
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size != size:
                return False
            hasher = digest.hasher(size)
            while chunk := file.read(CHUNK):
                hasher.update(chunk)
    except HubError:
        return False
    return hasher.hexdigest() == digest.value


def copy_verified(source: Path, target: Path, size: int, digest: Digest, what: str) -> None:
    """Copy a regular file to a path that does not exist yet; on disk when this returns.

    Raises `Integrity` when the source is missing, not a regular file or differs from its digest, `RunFailed` when the
    disk refuses. Nothing is left at `target` after a failure.
    """
    with disk_errors(f"cannot copy {what}"):
        try:
            origin = open_regular(source)
        except NotFound:
            raise Integrity(f"{what} is missing from the remote", "its author has to push it again") from None
        with origin, _new_file(target) as copy:
            left, hasher = size, digest.hasher(size)
            with ThreadPoolExecutor(1) as hashing:  # one chunk is hashed while it is written
                # One byte more than promised is read, so that a longer file is noticed and never copied whole.
                while chunk := origin.read(min(CHUNK, left + 1)):
                    left -= len(chunk)
                    if left < 0:
                        break
                    hashed = hashing.submit(hasher.update, chunk)
                    copy.write(chunk)
                    hashed.result()
            if left or hasher.hexdigest() != digest.value:
                raise Integrity(
                    f"{what} differs from its {digest.kind} digest {digest.value[:16]}",
                    "pull it again; if it stays, its author has to push it again",
                )


@contextlib.contextmanager
def _new_file(target: Path) -> Iterator[Any]:
    """A file that did not exist, flushed to the disk at the end and removed after an error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target, "xb") as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            target.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turn errors of the file system into `RunFailed`, which begins with `what`."""
    try:
        yield
    except OSError as error:
        raise RunFailed(
            f"{what}: {error.strerror or error}", "check the folder's permissions and the free space"
        ) from None
