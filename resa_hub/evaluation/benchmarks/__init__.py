"""Benchmarks by name: a table of rows (a data set of the Hub or a local file) as the registry describes it, or a
program with a file of its own.

`--benchmark` takes NAME (of the registry), FILE (.jsonl, .json, .csv, .parquet with columns problem and answer, or
FILE:question=COLUMN,answer=COLUMN),
NAME=FILE (a local copy of a registered one, or a file with another rule of grading: integer=FILE), or FAMILY/TASK@LEVEL
of a program that has several (reasoning-gym/basic_arithmetic@2).
"""

from pathlib import PurePath

import msgspec

from ...config.refs import DATA_SUFFIXES, is_path, split_columns
from ...config.registry import Registry
from ...config.schema import BenchmarkEntry as Entry
from ...core import plugins
from ...core.errors import NotFound, Usage, did_you_mean
from .base import Benchmark
from .grading import RULES
from .table_benchmark import Table

BENCHMARKS = {
    "resa-hub/tiny-chain": "tiny_chain:TinyChain",
    "package:champ-dataset": "champ:champ",
    "package:reasoning-gym": "reasoning_gym:ReasoningGym",
} | plugins.rows("BENCHMARKS")
"""Id -> what makes the benchmark, called with (name, entry). An id that no registry lists is its own name."""


def load(text: str, names: Registry | None = None) -> Benchmark:
    """The benchmark of a name, nothing read yet; raises `NotFound` with the nearest name, or `Usage`. Without `names`
    the built-in registry and the user's count.
    """
    names = names or Registry()
    text, columns = split_columns(text)
    name, _, path = text.partition("=")
    if path:
        return _from_file(name, path, columns, names)
    if text.endswith(DATA_SUFFIXES):
        return Table(_name_of_file(text), msgspec.structs.replace(Entry(id=text), **columns))
    if is_path(text):
        what = "is not a data file" if PurePath(text).suffix else "is a folder or a file without suffix"
        raise Usage(f"--benchmark {text}: it {what}", f"a file ends in {', '.join(DATA_SUFFIXES)}")
    name = text.partition("/")[0]
    unlisted = name in BENCHMARKS and name not in names.entries["benchmarks"]
    entry = Entry(id=name) if unlisted else names.get("benchmarks", name)
    if entry.id in BENCHMARKS:
        return plugins.resolve(BENCHMARKS[entry.id], __name__)(text, entry)
    return Table(text, entry)


def _from_file(name: str, path: str, columns: dict[str, str], names: Registry) -> Table:
    """A local copy of the registered benchmark `name`, or a file graded by the rule `name`."""
    registered = names.entries["benchmarks"]
    if name not in registered and name not in RULES:
        raise NotFound(f"no benchmark and no grading is called {name!r}", did_you_mean(name, [*registered, *RULES]))
    entry = registered[name].value if name in registered else Entry(id=path, grading=name)
    entry = msgspec.structs.replace(entry, id=path, revision=None, config=None, split="train", **columns)
    return Table(name if name in registered else _name_of_file(path), entry)


def _name_of_file(path: str) -> str:
    """A file's own name, never that of a registered benchmark."""
    stem = "".join(c if (c.isalnum() and c.isascii()) or c in "._-" else "-" for c in PurePath(path).stem)
    return f"file-{stem[:60].strip('.-') or 'rows'}"
