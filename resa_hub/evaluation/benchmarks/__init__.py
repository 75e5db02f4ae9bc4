"""Benchmarks by name: a table of rows (a data set of the Hub or a local file) as the registry describes it, or a
generator with a file of its own.

`--benchmark` takes NAME (of the registry), FILE (.jsonl, .json, .csv, .parquet with columns problem and answer),
NAME=FILE (a local copy of a registered one, or a file with another rule of grading: integer=FILE), or FAMILY/TASK@LEVEL
of a generator that has several (reasoning-gym/basic_arithmetic@2).
"""

from importlib import import_module
from pathlib import PurePath

import msgspec

from ...config.refs import DATA_SUFFIXES
from ...config.registry import Registry
from ...config.schema import BenchmarkEntry as Entry
from ...core.errors import NotFound, did_you_mean
from .base import Benchmark
from .grading import RULES
from .table import Table

OWN_FILES = {
    "resa-hub/tiny-chain": "tiny_chain:TinyChain",
    "package:champ-dataset": "champ:champ",
    "package:reasoning-gym": "reasoning_gym:ReasoningGym",
}
"""Id of the registry entry -> what makes the benchmark, called with (name, entry)."""


def load(text: str, names: Registry | None = None) -> Benchmark:
    """The benchmark of a name, nothing read yet; raises `NotFound` with the nearest name, or `Usage`. Without `names`
    the built-in and the user's count.
    """
    names = names or Registry()
    name, _, path = text.partition("=")
    if path:
        known = names.entries["benchmarks"]
        if name not in known and name not in RULES:
            raise NotFound(f"no benchmark and no grading is called {name!r}", did_you_mean(name, [*known, *RULES]))
        entry = known[name].value if name in known else Entry(id=path, grading=name)
        entry = msgspec.structs.replace(entry, id=path, revision=None, config=None, split="train")
        return Table(name if name in known else _named(path), entry)
    if text.endswith(DATA_SUFFIXES):
        return Table(_named(text), Entry(id=text))
    entry = names.get("benchmarks", text.partition("/")[0])
    if entry.id not in OWN_FILES:
        return Table(text, entry)
    module, kind = OWN_FILES[entry.id].split(":")
    return getattr(import_module(f".{module}", __name__), kind)(text, entry)


def _named(path: str) -> str:
    """A file's own name, never that of a registered benchmark."""
    stem = "".join(c if (c.isalnum() and c.isascii()) or c in "._-" else "-" for c in PurePath(path).stem)
    return f"file-{stem[:60].strip('.-') or 'rows'}"
