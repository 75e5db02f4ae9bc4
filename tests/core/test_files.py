"""Which links are followed where a stranger's files are read: those of the Hub client's cache, and no other."""

from collections.abc import Callable
from pathlib import Path

import pytest

from resa_hub.core.errors import Integrity
from resa_hub.core.files import hash_file, read_bounded

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(name="repository")
def cached_repository(tmp_path: Path) -> Path:
    """As the client keeps one: blobs, and a snapshot that links to them."""
    repository = tmp_path / "models--owner--name"
    (repository / "blobs").mkdir(parents=True)
    (repository / "blobs" / "f00d").write_bytes(b"content")
    (repository / "snapshots" / COMMIT / "checkpoint-5").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"secret")
    return repository


def linked(repository: Path, target: str, at: str = f"snapshots/{COMMIT}/file") -> Path:
    path = repository / at
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return path


def test_links_of_the_cache_are_followed(repository: Path, tmp_path: Path) -> None:
    here = linked(repository, "../../blobs/f00d")
    below = linked(repository, "../../../blobs/f00d", f"snapshots/{COMMIT}/checkpoint-5/file")
    absolute = linked(repository, str(repository / "blobs" / "f00d"), f"snapshots/{COMMIT}/absolute")
    (tmp_path / "by-another-way").symlink_to(repository.parent)
    through = tmp_path / "by-another-way" / repository.name / "snapshots" / COMMIT / "file"
    assert {read_bounded(path) for path in (here, below, absolute, through)} == {b"content"}
    assert hash_file(here)[0] == 7


REFUSED: dict[str, Callable[[Path], Path]] = {
    "out of the repository": lambda r: linked(r, "../../../secret"),
    "absolute, out of it": lambda r: linked(r, str(r.parent / "secret")),
    "beside the blobs": lambda r: linked(r, "../../blobs/../../secret"),
    "no snapshot": lambda r: linked(r, "../../blobs/f00d", "snapshots/main/file"),
    "not below snapshots": lambda r: linked(r, "../../blobs/f00d", f"other/{COMMIT}/file"),
    "a plain folder": lambda r: linked(r, "blobs/f00d", "file"),
    "a blob that is a link": lambda r: (r / "blobs" / "l1").symlink_to("../../secret") or linked(r, "../../blobs/l1"),
    "another repository's blobs": lambda r: linked(r, "../../../models--a--b/blobs/f00d"),
    "the blobs themselves": lambda r: linked(r, "../../blobs"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_other_links_are_refused(repository: Path, kind: str) -> None:
    (repository.parent / "models--a--b" / "blobs").mkdir(parents=True)
    (repository.parent / "models--a--b" / "blobs" / "f00d").write_bytes(b"secret")
    with pytest.raises(Integrity, match="links"):
        read_bounded(REFUSED[kind](repository))
