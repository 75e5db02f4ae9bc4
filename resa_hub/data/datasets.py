"""Rows of (question, answer), perhaps with a chain of thought.

They come from the embedded task, a local file, or a data set of the Hub.
"""

import csv
import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from ..config.recipe import Data
from ..config.refs import DATA_SUFFIXES, Repo, is_path, split_columns
from ..config.schema import Dataset
from ..core.errors import MissingExtra, Network, NotFound, RunFailed, Usage
from ..core.hub_errors import hub_errors
from ..core.install import missing
from .columns import column_of, no_column
from .snapshots import Rows, text_digest

TINY = "resa-hub/tiny-chain"
FORMATS = f"{', '.join(DATA_SUFFIXES[:-1])} or {DATA_SUFFIXES[-1]}"
Columns = Callable[[Sequence[str]], Sequence[str]]
"""The columns that are needed, called with those of the table."""


def load(data: Data, entry: Dataset) -> Rows:
    """The rows that a recipe asks for, from the front.

    Rows that lack a part are left out and named; equal ones are all kept, as in the reference code. Raises
    `NotFound`, `Network`, `RunFailed` or `Usage` naming the data set.
    """
    if data.rows is not None and data.rows < 1:
        raise Usage(f"{data.rows} rows of data set {data.name!r} are asked for", "ask for 1 or more; null takes all")
    if entry.id == TINY:
        return _tiny(data, entry)
    parts = ("question", "answer", *(["solution"] if data.cot else []))

    def columns_of(present: Sequence[str]) -> list[str]:
        return [column_of(part, getattr(entry, part), present, data.name) for part in parts]

    table, revision = records(entry, columns_of, data.rows)
    columns = columns_of(list(table[0])) if table else list(parts)
    texts = [[field(row, column, data.name) for column in columns] for row in table]
    whole = [parts for parts in texts if all(parts)]
    if not whole:
        raise RunFailed(
            f"data set {data.name!r} has no row with {' and '.join(columns)}",
            f"name another, or say which: {split_columns(data.name)[0]}:question=COLUMN,answer=COLUMN",
        )
    pairs = [(parts[0], parts[1]) for parts in whole]
    thoughts = [between_tags(parts[2]) for parts in whole] if data.cot else None
    fingerprint = text_digest([part for pair in pairs for part in pair] + (thoughts or []))
    lacking = places(entry, [number for number, parts in enumerate(texts, 1) if not all(parts)])
    return Rows(data.name, entry.id, revision or fingerprint, pairs, thoughts, lacking)


class TableSource(Protocol):
    """What the registry says of a table of rows: an entry of `datasets` or of `benchmarks`."""

    @property
    def id(self) -> str: ...
    @property
    def revision(self) -> str | None: ...
    @property
    def config(self) -> str | None: ...
    @property
    def split(self) -> str: ...


OUT_OF_REACH = (Network, MissingExtra)
"""Errors that a local copy gets around."""


def is_local(entry: TableSource) -> bool:
    return is_path(entry.id) or entry.id.endswith(DATA_SUFFIXES)


def records(
    entry: TableSource, columns: Columns | None = None, rows: int | None = None
) -> tuple[list[dict[str, Any]], str]:
    """The rows of a local file or a Hub data set, and the commit; empty for a file.

    columns: those that are needed of those that are there; all by default. rows: from the front. Raises `NotFound`,
    `Network`, `RunFailed`, `MissingExtra`.
    """
    if is_local(entry):
        return _local(entry.id)[:rows], ""
    return _hub(entry, columns, rows)


def places(entry: TableSource, records: Sequence[int]) -> tuple[str, ...]:
    """Where these records (from 1) stand: `line 7` of a JSONL file, which may have empty lines; `row 7` of others."""
    if not records or not (is_local(entry) and entry.id.endswith(".jsonl")):
        return tuple(f"row {number}" for number in records)
    lines = Path(entry.id).expanduser().read_text(encoding="utf-8").split("\n")
    written = [number for number, line in enumerate(lines, 1) if line.strip()]
    return tuple(f"line {written[number - 1]}" for number in records)


def _tiny(data: Data, entry: Dataset) -> Rows:
    from .tiny import task

    problems = task.problems(data.rows or 2_048, entry.split, data.seed)
    thoughts = [task.chain(problem) for problem in problems] if data.cot else None
    return Rows(data.name, entry.id, "generator-1", [(problem.text, problem.answer) for problem in problems], thoughts)


def _local(id_: str) -> list[dict[str, Any]]:
    """Values as the file has them: no reader that would take the answer 007 for a number."""
    path = Path(id_).expanduser()
    if not path.is_file():
        problem = f"{id_} is a folder, not a file" if path.is_dir() else f"no such file {id_}"
        raise NotFound(problem, f"data are a file of {FORMATS}, a Hub id or a name")
    if path.suffix not in DATA_SUFFIXES:
        raise Usage(f"{id_} is none of {FORMATS}", "convert it: one record a row, with columns problem and answer")
    try:
        rows = _read(path)
    except (ValueError, OSError, csv.Error) as error:
        raise Usage(
            f"{id_} cannot be read as {path.suffix[1:]}: {str(error).splitlines()[0]}", "it needs one record a row"
        ) from None
    if not all(isinstance(row, dict) for row in rows):
        raise Usage(f"{id_} holds something other than records with named columns", "it needs one record a row")
    if not rows:
        raise Usage(f"{id_} has no rows", "it needs one record a row")
    return rows


def _read(path: Path) -> list[Any]:
    if path.suffix == ".parquet":
        from pyarrow import parquet

        return parquet.read_table(path).to_pylist()
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".csv":
        reader = csv.DictReader(text.splitlines(keepends=True))
        if not reader.fieldnames:
            raise ValueError("it has no line with the names of its columns")
        return list(reader)
    if path.suffix == ".jsonl":
        return [_record(line, number) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    content = json.loads(text)
    return content if isinstance(content, list) else [content]


def _record(line: str, number: int) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number}, column {error.colno}: {error.msg}") from None


def _hub(entry: TableSource, columns: Columns | None, rows: int | None) -> tuple[list[dict[str, Any]], str]:
    """Only the columns and rows that are needed: some data sets carry gigabytes of text beside the questions."""
    try:
        import datasets as hub
        from datasets.exceptions import DatasetNotFoundError
    except ImportError:
        raise missing("the package `datasets` is missing", "datasets") from None
    from huggingface_hub import HfApi

    repo = Repo(entry.id, entry.revision)
    with hub_errors(f"data set {repo}"):
        commit = HfApi().dataset_info(entry.id, revision=entry.revision).sha or ""
        try:
            table: Any = hub.load_dataset(entry.id, entry.config, split=entry.split, revision=commit)
        except DatasetNotFoundError as error:
            # Raises for a gated data set, which the library above calls not found.
            HfApi().auth_check(entry.id, repo_type="dataset")
            raise NotFound(f"data set {repo}: {str(error).splitlines()[0]}", "check its files") from None
        except ValueError as error:  # an unknown configuration or split; the library has no class of its own for them
            raise NotFound(
                f"data set {repo}: {str(error).splitlines()[0]}", "set config and split of its registry entry"
            ) from None
    needed = list(dict.fromkeys(path.partition(".")[0] for path in columns(table.column_names))) if columns else []
    if needed and set(needed) <= set(table.column_names):
        table = table.select_columns(needed)
    return list(table.select(range(min(rows or len(table), len(table))))), commit


def field(row: dict[str, Any], path: str, name: str) -> str:
    """The text of a column, empty where the row has none.

    path: `column.key` reads a JSON text or mapping, `column.0` the first of a list; a list of messages gives the first
    user turn. Raises `Usage` for a column that the data set does not have.
    """
    first, *keys = path.split(".")
    if first not in row:
        raise no_column(name, repr(first), list(row))
    value: Any = row[first]
    for key in keys:
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                return ""
        if isinstance(value, list) and key.isdigit():
            value = value[int(key)] if int(key) < len(value) else None
        else:
            value = value.get(key) if isinstance(value, dict) else None
    return as_text(value)


def as_text(value: Any) -> str:
    """The value of a cell as people write it.

    42.0 is 42; a list of messages is its first user turn, another list its parts with commas; None and NaN are empty.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, list):
        if value and isinstance(value[0], dict):
            user_turns = (message.get("content") for message in value if message.get("role") == "user")
            return as_text(next(user_turns, value[0].get("content")))
        return ", ".join(filter(None, map(as_text, value)))
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | bool) else str(value)
    return text if text.strip() else ""


def between_tags(thought: str) -> str:
    """The text between the tags of a whole trace, else all of it."""
    match = re.search(r"<think>(.*?)</think>", thought, re.S)
    return (match[1] if match else thought).strip()
