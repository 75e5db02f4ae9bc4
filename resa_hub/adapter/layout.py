"""The files of an adapter folder: allowed names, bounded sizes, hashes, and the content hash that is its identity."""

import re
from collections.abc import Iterable
from pathlib import Path

from ..core.errors import Integrity
from ..core.files import MAX_TEXT, MAX_WEIGHTS, hash_file, read_bounded, walk
from ..core.strict import Strict, canonical_digest

WEIGHTS, CONFIG, MANIFEST, CARD = "adapter_model.safetensors", "adapter_config.json", "resa.json", "README.md"
SIGNATURE = "signature.json"
SAE = "sae/"
HOOKPOINT_FOLDER = SAE + r"layers\.\d{1,4}(\.mlp)?"
EVALUATION = re.compile(r"evals/[A-Za-z0-9][\w.-]{0,120}\.json", re.ASCII)
PLOT = re.compile(r"evals/[A-Za-z0-9][\w.-]{0,120}\.png", re.ASCII)
ALLOWED = re.compile(
    rf"{re.escape(WEIGHTS)}|{CONFIG}|{re.escape(MANIFEST)}|{CARD}|{re.escape(SIGNATURE)}|"
    rf"{HOOKPOINT_FOLDER}/(cfg\.json|sae_weights\.safetensors)|"
    rf"{EVALUATION.pattern}|{PLOT.pattern}",
    re.ASCII,
)
IDENTITY = re.compile(rf"{re.escape(WEIGHTS)}|{CONFIG}|{HOOKPOINT_FOLDER}/.+", re.ASCII)
"""The files whose bytes are the adapter; the manifest, the card and evaluations may change around them."""
MAX_PLOT = 1 << 20
PNG = b"\x89PNG\r\n\x1a\n"


def limit_of(path: str) -> int:
    """Bytes that a file of an adapter may have."""
    return {".safetensors": MAX_WEIGHTS, ".png": MAX_PLOT}.get(path[path.rfind(".") :], MAX_TEXT)


class FileEntry(Strict, frozen=True):
    path: str
    size: int
    sha256: str


def scan(folder: Path, known: Iterable[FileEntry] = ()) -> tuple[FileEntry, ...]:
    """Every file of an adapter folder with size and hash, sorted; raises `Integrity` for a name off the allow-list.

    known: files whose bytes were hashed before; of them only the size is looked at.
    """
    entries = []
    hashed = {entry.path: entry for entry in known}
    for path in sorted(walk(folder)):
        if not ALLOWED.fullmatch(path):
            raise Integrity(
                f"{path!r} does not belong into an adapter",
                "adapters hold safetensors, JSON, plots of evaluations and a README only",
            )
        if PLOT.fullmatch(path) and not read_bounded(folder / path, MAX_PLOT).startswith(PNG):
            raise Integrity(f"{path!r} is no picture", "remove it, or pull the adapter again")
        before = hashed.get(path)
        if before and (folder / path).stat(follow_symlinks=False).st_size == before.size:
            entries.append(before)
            continue
        size, digest = hash_file(folder / path)
        entries.append(FileEntry(path=path, size=size, sha256=digest))
    return tuple(entries)


def identity_of(entries: tuple[FileEntry, ...]) -> tuple[FileEntry, ...]:
    """The entries whose bytes are the adapter, sorted by path."""
    return tuple(sorted((entry for entry in entries if IDENTITY.fullmatch(entry.path)), key=lambda entry: entry.path))


def same_but_for_sae(ours: Iterable[FileEntry], theirs: Iterable[FileEntry]) -> bool:
    """Are these the same adapter? Either side may lack the SAE, wholly."""
    a, b = set(identity_of(tuple(ours))), set(identity_of(tuple(theirs)))
    lacking = any(not any(entry.path.startswith(SAE) for entry in side) for side in (a, b))
    return a == b or (lacking and all(entry.path.startswith(SAE) for entry in a ^ b))


def content_hash(entries: tuple[FileEntry, ...]) -> str:
    """The identity of an adapter: sha256 over the canonical JSON of the sorted (path, size, sha256)."""
    return canonical_digest([[entry.path, entry.size, entry.sha256] for entry in identity_of(entries)])
