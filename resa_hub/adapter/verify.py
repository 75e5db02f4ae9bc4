"""Is an adapter folder what its manifest says? Every byte is checked, while other processes may remove it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ..core.errors import HubError, Integrity, NotFound
from ..core.tensors import safetensors_header
from .layout import MANIFEST, SAE, FileEntry, identity_of, scan
from .manifest import Manifest, read_manifest


def verify_folder(folder: Path, checked: tuple[FileEntry, ...] = ()) -> Manifest:
    """Check every byte that the manifest vouches for; the SAE may be left out, wholly.

    checked: files that were hashed as they were written a moment ago. Raises `Integrity` naming the first file that
    differs.
    """
    with report_removal(folder):
        manifest = read_manifest(folder)
        _compare(folder, manifest, scan(folder, checked))
        return manifest


@contextlib.contextmanager
def report_removal(folder: Path) -> Iterator[None]:
    """Raise `NotFound` for what looks like damage because another process removed the folder meanwhile."""
    before = _inode(folder)
    try:
        yield
    except (HubError, OSError):
        if before and _inode(folder) != before:
            raise NotFound(f"{folder} was removed while it was read", "another process did so") from None
        raise


def _inode(folder: Path) -> int:
    try:
        return folder.stat().st_ino
    except OSError:
        return 0


def files_to_send(folder: Path, manifest: Manifest, *, sae: bool = True) -> tuple[FileEntry, ...]:
    """Every file of an adapter whose bytes were just checked, evaluations and card included.

    Raises `Integrity` when one has gone or changed its size since.
    """
    entries = scan(folder, known=manifest.files)
    _compare(folder, manifest, entries)
    if MANIFEST not in {entry.path for entry in entries}:
        raise Integrity(f"{MANIFEST} of {manifest.reference} is missing", "pull it again")
    return tuple(entry for entry in entries if sae or not entry.path.startswith(SAE))


def _compare(folder: Path, manifest: Manifest, entries: tuple[FileEntry, ...]) -> None:
    """Raise `Integrity` unless `entries`, the files of the folder, are those of the manifest."""
    unlisted = {entry.path: entry for entry in identity_of(entries)}
    without_sae = not (folder / SAE).exists()
    for entry in manifest.files:
        present = unlisted.pop(entry.path, None)
        if present is None and without_sae and entry.path.startswith(SAE):
            continue
        if present is None:
            raise Integrity(f"{entry.path} of {manifest.reference} is missing", "pull it again")
        if present != entry:
            raise Integrity(
                f"{entry.path} of {manifest.reference} was changed: sha256 {present.sha256[:16]}, the manifest "
                f"says {entry.sha256[:16]}",
                "pull it again",
            )
        if entry.path.endswith(".safetensors"):
            safetensors_header(folder / entry.path)
    if unlisted:
        raise Integrity(
            f"{next(iter(unlisted))} of {manifest.reference} is not in its manifest",
            "remove that file, or pull the adapter again",
        )
