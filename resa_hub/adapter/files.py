"""Reading files that a stranger may have made: allowed names, regular files, bounded sizes, hashes, safetensors headers."""

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import Integrity, NotFound, RunFailed
from ..recipe import Strict, canonical_digest

WEIGHTS, CONFIG, MANIFEST, CARD = "adapter_model.safetensors", "adapter_config.json", "resa.json", "README.md"
SIGNATURE = "signature.json"
SAE = "sae/"
HOOKPOINT_FOLDER = SAE + r"layers\.\d{1,4}(\.mlp)?"
EVALUATION = re.compile(r"evals/[A-Za-z0-9][\w.-]{0,120}\.json", re.ASCII)
PLOT = re.compile(r"evals/[A-Za-z0-9][\w.-]{0,120}\.png", re.ASCII)
ALLOWED = re.compile(
    rf"{re.escape(WEIGHTS)}|{CONFIG}|{re.escape(MANIFEST)}|{CARD}|{re.escape(SIGNATURE)}|{HOOKPOINT_FOLDER}/(cfg\.json|sae_weights\.safetensors)|"
    rf"{EVALUATION.pattern}|{PLOT.pattern}",
    re.ASCII,
)
IDENTITY = re.compile(rf"{re.escape(WEIGHTS)}|{CONFIG}|{HOOKPOINT_FOLDER}/.+", re.ASCII)
"""The files whose bytes are the adapter; the manifest, the card and evaluations may change around them."""

MAX_TEXT = 8 << 20
MAX_PLOT = 1 << 20
MAX_HEADER = 32 << 20
MAX_WEIGHTS = 64 << 30
DTYPE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}


PNG = b"\x89PNG\r\n\x1a\n"


def limit_of(path: str) -> int:
    """Bytes that a file of an adapter may have."""
    return {".safetensors": MAX_WEIGHTS, ".png": MAX_PLOT}.get(path[path.rfind(".") :], MAX_TEXT)


class FileEntry(Strict, frozen=True):
    path: str
    size: int
    sha256: str


class TensorInfo(NamedTuple):
    dtype: str
    shape: tuple[int, ...]
    start: int
    """Offset of the first byte in the file."""
    end: int


def open_regular(path: Path):
    """Open for reading without following a link; raises `Integrity` unless it is a regular file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist", "check the name, or pull the adapter again") from None
    except OSError as error:
        raise Integrity(f"{path} cannot be read as a plain file: {error.strerror}", "links and devices are refused") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Integrity(f"{path} is not a regular file", "links, folders and devices are refused")
    return os.fdopen(descriptor, "rb")


def read_bounded(path: Path, limit: int = MAX_TEXT) -> bytes:
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Integrity(f"{path.name} is larger than {limit} bytes", "such a file is not part of an adapter")
    return data


def read_json(path: Path, limit: int = MAX_TEXT) -> Any:
    """Strict JSON: no duplicate keys, no NaN, bounded size and depth."""
    return parse_json(read_bounded(path, limit), path.name)


def parse_json(data: bytes, name: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("a key stands twice")
        return dict(pairs)

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(data, object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise Integrity(f"{name} is not valid JSON: {error}", "pull it again, or ask its author") from None


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


def scan(folder: Path, known: Iterable[FileEntry] = ()) -> tuple[FileEntry, ...]:
    """Every file of an adapter folder with size and hash, sorted; raises `Integrity` for a name off the allow-list.

    known: files whose bytes were hashed before; of them only the size is looked at.
    """
    entries, hashed = [], {entry.path: entry for entry in known}
    for path in sorted(walk(folder)):
        if not ALLOWED.fullmatch(path):
            raise Integrity(f"{path!r} does not belong into an adapter", "adapters hold safetensors, JSON, plots of evaluations and a README only")
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
    return tuple(sorted((entry for entry in entries if IDENTITY.fullmatch(entry.path)), key=lambda entry: entry.path))


def same_but_for_sae(ours: Iterable[FileEntry], theirs: Iterable[FileEntry]) -> bool:
    """Are these the same adapter? Either side may lack the SAE, wholly."""
    a, b = set(identity_of(tuple(ours))), set(identity_of(tuple(theirs)))
    lacking = any(not any(entry.path.startswith(SAE) for entry in side) for side in (a, b))
    return a == b or (lacking and all(entry.path.startswith(SAE) for entry in a ^ b))


def content_hash(entries: tuple[FileEntry, ...]) -> str:
    """The identity of an adapter: sha256 over the canonical JSON of the sorted (path, size, sha256)."""
    return canonical_digest([[entry.path, entry.size, entry.sha256] for entry in identity_of(entries)])


def safetensors_header(path: Path) -> dict[str, TensorInfo]:
    """The tensors of a safetensors file, checked: bounded header, known types, no overlap, nothing outside the file."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 10 or size > MAX_WEIGHTS or not 2 <= length <= min(MAX_HEADER, size - 8):
            raise Integrity(f"{path.name} has no valid safetensors header", "pull it again, or ask its author")
        header = parse_json(file.read(length), f"the header of {path.name}")
    if not isinstance(header, dict):
        raise Integrity(f"the header of {path.name} is not a mapping", "pull it again, or ask its author")
    header.pop("__metadata__", None)
    tensors: dict[str, TensorInfo] = {}
    for name, info in header.items():
        try:
            shape, (start, end) = tuple(info["shape"]), info["data_offsets"]
            whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in (*shape, start, end))
            right = whole and end - start == math.prod(shape) * DTYPE_BYTES[info["dtype"]]
        except (KeyError, TypeError, ValueError):
            right = False
        if not right:
            raise Integrity(f"tensor {name!r} of {path.name} is not described rightly", "pull it again, or ask its author")
        tensors[name] = TensorInfo(info["dtype"], shape, 8 + length + start, 8 + length + end)
    position = 8 + length
    for name, info in sorted(tensors.items(), key=lambda item: item[1].start):
        if info.start != position:
            raise Integrity(f"tensor {name!r} of {path.name} overlaps another or leaves a gap", "pull it again, or ask its author")
        position = info.end
    if position != size:
        raise Integrity(f"{path.name} is cut short or has bytes behind its last tensor", "pull it again, or ask its author")
    return tensors


def read_tensor(path: Path, info: TensorInfo) -> Any:
    """A floating tensor as a float32 numpy array, memory-mapped until it is converted; bf16 included."""
    import numpy

    kinds = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "BF16": "<u2"}
    if info.dtype not in kinds:
        raise Integrity(f"{path.name} holds {info.dtype} where a floating type is expected", "only F64, F32, F16 and BF16 are read")
    if 0 in info.shape:
        return numpy.zeros(info.shape, numpy.float32)
    raw = numpy.memmap(path, dtype=kinds[info.dtype], mode="r", offset=info.start, shape=info.shape)
    return BFloat16(raw) if info.dtype == "BF16" else raw


class BFloat16:
    """A memory-mapped bf16 array whose entries become float32 when picked: numpy has no such type."""

    def __init__(self, raw: Any) -> None:
        self.raw, self.shape, self.size = raw, raw.shape, raw.size

    def reshape(self, *shape: int) -> "BFloat16":
        return BFloat16(self.raw.reshape(*shape))

    def __getitem__(self, index: Any) -> Any:
        import numpy

        return (self.raw[index].astype(numpy.uint32) << 16).view(numpy.float32)
