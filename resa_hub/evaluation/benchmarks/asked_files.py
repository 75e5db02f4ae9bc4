"""Which files of this machine were asked as benchmarks: a document tells their name alone, and one of a stranger may
not say what is read here.
"""

from pathlib import Path
from typing import Any, Protocol

import msgspec

from ...config.schema import BenchmarkEntry
from ...data import datasets
from .base import Benchmark
from .table_benchmark import Table


class Facts(Protocol):
    """The store of samples, which lies above this file."""

    def get_fact(self, name: str) -> Any: ...
    def put_fact(self, name: str, value: Any) -> None: ...


def remember(benchmark: Benchmark, facts: Facts) -> None:
    """Keep where the rows of a benchmark lie that is a local file."""
    if isinstance(benchmark, Table) and benchmark.reader is None and datasets.is_local(benchmark.entry):
        entry = msgspec.structs.replace(benchmark.entry, id=str(Path(benchmark.entry.id).expanduser().absolute()))
        if facts.get_fact(_key(benchmark.name)) != (kept := msgspec.to_builtins(entry)):
            facts.put_fact(_key(benchmark.name), kept)


def recall(name: str, facts: Facts) -> Benchmark | None:
    """The file that was last asked by this name, if it is still there."""
    kept = facts.get_fact(_key(name))
    entry = msgspec.convert(kept, BenchmarkEntry) if kept else None
    return Table(name, entry) if entry and Path(entry.id).is_file() else None


def _key(name: str) -> str:
    return f"file of {name}"
