"""safetensors files read without torch: headers, and single tensors as numpy arrays."""

import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from .errors import Integrity
from .files import ASK_AUTHOR, MAX_HEADER, MAX_WEIGHTS, open_regular, parse_json

DTYPE_BYTES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
}


class TensorInfo(NamedTuple):
    dtype: str
    shape: tuple[int, ...]
    start: int
    """Offset of the first byte in the file."""
    end: int


def safetensors_header(path: Path) -> dict[str, TensorInfo]:
    """The tensors of a safetensors file, checked: bounded header, known types, no overlap, nothing outside the file.

    Raises `Integrity`.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 10 or size > MAX_WEIGHTS or not 2 <= length <= min(MAX_HEADER, size - 8):
            raise Integrity(f"{path.name} has no valid safetensors header", ASK_AUTHOR)
        header = parse_json(file.read(length), f"the header of {path.name}")
    if not isinstance(header, dict):
        raise Integrity(f"the header of {path.name} is not a mapping", ASK_AUTHOR)
    header.pop("__metadata__", None)
    data_start = 8 + length
    tensors = {name: _tensor_info(info, data_start, name, path.name) for name, info in header.items()}
    position = data_start
    for name, info in sorted(tensors.items(), key=lambda item: item[1].start):
        if info.start != position:
            raise Integrity(f"tensor {name!r} of {path.name} overlaps another or leaves a gap", ASK_AUTHOR)
        position = info.end
    if position != size:
        raise Integrity(f"{path.name} is cut short or has bytes behind its last tensor", ASK_AUTHOR)
    return tensors


def _tensor_info(info: Any, data_start: int, name: str, file_name: str) -> TensorInfo:
    """An entry of a header; raises `Integrity` unless its offsets span what its shape and type need."""
    try:
        shape, (start, end) = tuple(info["shape"]), info["data_offsets"]
        whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in (*shape, start, end))
        valid = whole and end - start == math.prod(shape) * DTYPE_BYTES[info["dtype"]]
    except (KeyError, TypeError, ValueError):
        valid = False
    if not valid:
        raise Integrity(f"tensor {name!r} of {file_name} is not described rightly", ASK_AUTHOR)
    return TensorInfo(info["dtype"], shape, data_start + start, data_start + end)


def read_tensor(path: Path, info: TensorInfo) -> Any:
    """A floating tensor as a float32 numpy array, memory-mapped until it is converted; bf16 included."""
    import numpy

    kinds = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "BF16": "<u2"}
    if info.dtype not in kinds:
        raise Integrity(
            f"{path.name} holds {info.dtype} where a floating type is expected", "only F64, F32, F16 and BF16 are read"
        )
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
