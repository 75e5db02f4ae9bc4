"""Benchmarks: one file each, one line in the table."""

from importlib import import_module

from ..errors import NotFound, did_you_mean
from .base import Benchmark

TABLE = {"tiny-chain": "tiny_chain:TinyChain"}


def load(name: str) -> Benchmark:
    """The benchmark of a name; raises `NotFound`."""
    if name not in TABLE:
        hint = did_you_mean(name, list(TABLE)) or ""
        raise NotFound(f"benchmark {name!r} cannot be run by this version", f"{hint}; the registry names more, their loaders come later".lstrip("; "))
    module, kind = TABLE[name].split(":")
    return getattr(import_module(f".{module}", __name__), kind)()
