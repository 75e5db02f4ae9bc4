"""Rows of (question, answer) by name: the embedded task, a local file, or a data set of the Hub."""

import json
from pathlib import Path
from typing import Any, Protocol

from .errors import MissingExtra, Network, NotFound, RunFailed, Usage
from .recipe import Data
from .refs import DATA_SUFFIXES, Repo, is_path
from .registry import Dataset
from .sources import Rows, hub_errors, text_digest

TINY = "resa-hub/tiny-chain"


def load(data: Data, entry: Dataset) -> Rows:
    """The rows that a recipe asks for; raises `NotFound`, `Network` or `Usage` naming the data set."""
    if data.rows is not None and data.rows < 1:
        raise Usage(f"{data.rows} rows of data set {data.name!r} are asked for", "ask for 1 or more; null takes all")
    if entry.id == TINY:
        from .tiny import task

        pairs = list(task.question_answers(data.rows or 2_048, entry.split, data.seed))
        return Rows(data.name, entry.id, "generator-1", pairs)
    found, revision = records(entry)
    pairs = [(field(row, entry.question, data.name), field(row, entry.answer, data.name)) for row in found[: data.rows]]
    if not pairs:
        raise RunFailed(f"data set {data.name!r} has no rows", "name another with --trigger and --elicit")
    return Rows(data.name, entry.id, revision or text_digest([part for pair in pairs for part in pair]), pairs)


class Where(Protocol):
    """What the registry says of a table of rows."""

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


def records(entry: Where) -> tuple[list[dict[str, Any]], str]:
    """The rows of a local file or a Hub data set, and the commit; empty for a file. Raises `NotFound`, `Network`, `RunFailed`, `MissingExtra`."""
    local = is_path(entry.id) or entry.id.endswith(DATA_SUFFIXES)
    return _local(Path(entry.id).expanduser()) if local else _hub(entry)


def _local(path: Path) -> tuple[list[dict[str, Any]], str]:
    if not path.is_file():
        raise NotFound(f"the data file {path} does not exist", "check the path")
    try:
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()], ""
        import pandas

        # Texts stay texts: an answer 025 is no number yet, and an empty cell does not turn its column into fractions.
        json_kept, csv_kept = {"dtype": False, "convert_dates": False}, {"dtype": str, "keep_default_na": False}
        reader, options = {".json": (pandas.read_json, json_kept), ".csv": (pandas.read_csv, csv_kept), ".parquet": (pandas.read_parquet, {})}[path.suffix]
        return reader(path, **options).to_dict("records"), ""
    except (ValueError, OSError) as error:
        raise RunFailed(f"{path} cannot be read as {path.suffix[1:]}: {str(error).splitlines()[0]}", "it needs one record a row") from None


def _hub(entry: Where) -> tuple[list[dict[str, Any]], str]:
    try:
        import datasets as hub
        from datasets.exceptions import DatasetNotFoundError
    except ImportError:
        raise MissingExtra("the package `datasets` is missing", "pip install datasets") from None
    from huggingface_hub import HfApi

    repo = Repo(entry.id, entry.revision)
    with hub_errors(f"data set {repo}"):
        commit = HfApi().dataset_info(entry.id, revision=entry.revision).sha or ""
        try:
            return list(hub.load_dataset(entry.id, entry.config, split=entry.split, revision=commit)), commit  # pyright: ignore
        except DatasetNotFoundError as error:
            HfApi().auth_check(entry.id, repo_type="dataset")  # raises for a gated one, which the library above calls not found
            raise NotFound(f"data set {repo}: {str(error).splitlines()[0]}", "check its files") from None
        except ValueError as error:  # an unknown configuration or split; the library has no class of its own for them
            raise NotFound(f"data set {repo}: {str(error).splitlines()[0]}", "set config and split of its registry entry") from None


def field(row: dict[str, Any], path: str, name: str) -> str:
    """The text of a column; `column.key` reads a JSON text or mapping, a list of messages gives the first user turn."""
    value: Any = row
    for key in path.split("."):
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                value = None
        if not isinstance(value, dict) or key not in value:
            raise Usage(f"data set {name!r} has no column {path!r}; it has {', '.join(map(str, row))}", "set question and answer of its registry entry")
        value = value[key]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = next((m.get("content") for m in value if m.get("role") == "user"), value[0].get("content"))
    return str(value)
