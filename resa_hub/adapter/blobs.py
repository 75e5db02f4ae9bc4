"""Equal files of all versions take space once: they lie in `.blobs/<sha256>`, and version folders hold hard links.

The link count of a blob says who still needs it, so nothing has to be written down. Where the file system has no hard
links, files are plain copies.
"""

import os
import secrets
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..core.errors import HubError
from ..core.files import hash_file, walk
from .layout import FileEntry

FOLDER = ".blobs"


class Blobs:
    def __init__(self, root: Path) -> None:
        self.root = root / FOLDER

    def share(self, folder: Path, entries: Iterable[FileEntry]) -> None:
        """Make the checked files of a version folder links to blobs. Called under the store's lock."""
        try:
            self.root.mkdir(exist_ok=True)
            for entry in entries:
                path, blob = folder / entry.path, self.root / entry.sha256
                if not intact(blob, entry):
                    _link(path, blob)
                elif not path.samefile(blob):
                    _link(blob, path)
        except OSError:
            return  # no hard links here

    def unused(self) -> list[Path]:
        """Blobs that no version links to, and what a killed process was linking."""
        if not self.root.is_dir():
            return []
        return sorted(path for path in self.root.iterdir() if path.name.startswith(".") or _links(path) == 1)

    def used_only_by(self, folders: Sequence[Path]) -> list[Path]:
        """The blobs that files of these version folders link to, and no other file does."""
        if not self.root.is_dir():
            return []
        links = Counter((folder / path).lstat().st_ino for folder in folders for path in walk(folder))
        blobs = {path: path.lstat() for path in sorted(self.root.iterdir())}
        return [path for path, status in blobs.items() if links[status.st_ino] == status.st_nlink - 1 > 0]

    def freed_with(self, folders: Sequence[Path]) -> int:
        """Bytes of the disk that are free when these version folders are gone, and the blobs that only they use."""
        files = ((folder / path).lstat() for folder in folders for path in walk(folder))
        copies = sum(status.st_size for status in files if status.st_nlink == 1)
        return copies + sum(blob.lstat().st_size for blob in self.used_only_by(folders))


def _links(path: Path) -> int:
    """How many names the file has; none when another process has just removed it."""
    try:
        return path.lstat().st_nlink
    except FileNotFoundError:
        return 0


def intact(blob: Path, entry: FileEntry) -> bool:
    """Whether a blob has the bytes that its name says: a damaged one must not replace good ones."""
    try:
        return hash_file(blob) == (entry.size, entry.sha256)
    except HubError:
        return False


def _link(origin: Path, target: Path) -> None:
    """`target` becomes another name of `origin`, whole or not at all."""
    staged = target.with_name(f".{secrets.token_hex(8)}")
    os.link(origin, staged)
    os.replace(staged, target)
    staged.unlink(missing_ok=True)  # where both were the same file already, rename does nothing
