"""Per-sample results of other evaluation tools, read from their own log files: lm-eval (samples_*.jsonl), inspect
(.eval, .json), lighteval (details .parquet).

Nothing is graded again: a result counts as right where the tool's own metric says so. Formats: lm-eval 0.4.13 and
inspect 0.3.285 as written by the tools themselves (tests generate them), lighteval 0.10 to 0.13 as its documentation
describes the details.
"""

import json
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ...core.errors import NotFound, RunFailed, Usage, did_you_mean
from ...core.install import missing

MAX_BYTES = 2_000_000_000
PREFERRED = ("exact_match", "extractive_match", "math_verify", "acc", "accuracy", "includes", "match")
"""Metrics that are taken before others when a log has several."""
INSPECT_VALUES = {"C": 1, "I": 0, "N": 0, True: 1, False: 0}


class Log(NamedTuple):
    path: Path
    tool: str
    metric: str
    results: dict[str, list[int]]
    """Problem -> 0 or 1 of each sample."""
    dropped: int
    """Samples whose result is neither right nor wrong (an error, a part of a point): counted as wrong."""


Rows = list[tuple[str, dict[str, Any]]]
"""(problem, metric -> value) of each sample."""


def read(path: Path, metric: str | None = None) -> Log:
    """One arm's log; raises `NotFound`, `RunFailed` for a file that no tool wrote, `Usage` for an unknown metric."""
    tool, rows = _rows(path)
    chosen = _metric(path, rows, metric)
    results: dict[str, list[int]] = defaultdict(list)
    dropped = 0
    for problem, values in rows:
        right = _binary(values.get(chosen))
        dropped += right is None
        results[problem].append(right or 0)
    return Log(path=path, tool=tool, metric=chosen, results=dict(results), dropped=dropped)


def _rows(path: Path) -> tuple[str, Rows]:
    """(tool, samples)."""
    if not path.is_file():
        raise NotFound(f"the log {path} does not exist", "check the path")
    if path.stat().st_size > MAX_BYTES:
        raise RunFailed(f"{path} is larger than {MAX_BYTES // 10**9} GB", "split it by task")
    readers = {".jsonl": _lm_eval, ".parquet": _lighteval, ".eval": _inspect_archive, ".json": _inspect_json}
    if path.suffix not in readers:
        raise Usage(
            f"{path.name} is no log that is known",
            "lm-eval: samples_*.jsonl; inspect: .eval or .json; lighteval: details .parquet",
        )
    try:
        tool, rows = readers[path.suffix](path)
    except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else ""
        raise RunFailed(f"{path.name} cannot be read: {type(error).__name__}: {reason}", "is it whole?") from None
    if not rows:
        raise RunFailed(f"{path.name} holds no samples", "was the tool told to write them? (lm-eval: --log_samples)")
    return tool, rows


def _metric(path: Path, rows: Rows, metric: str | None) -> str:
    """The asked metric, else the most usual one that the log has (`exact_match`, `exact_match,strict-match`)."""
    names = sorted({name for _, values in rows for name in values})
    usual = [name for wanted in PREFERRED for name in names if name == wanted or name.startswith(f"{wanted},")]
    chosen = metric or next(iter([*usual, *names]), None)
    if chosen is None or chosen not in names:
        raise Usage(f"{path.name} has no metric {metric or ''}", did_you_mean(metric or "", names) or "it has none")
    return chosen


def _binary(value: Any) -> int | None:
    """1 for right, 0 for wrong, None for anything else."""
    value = INSPECT_VALUES.get(value, value) if isinstance(value, str | bool) else value
    return int(value) if isinstance(value, int | float) and value in (0, 1) else None


def _lm_eval(path: Path) -> tuple[str, Rows]:
    """A line a document and filter; a metric of one of several filters is called `metric,filter` as in lm-eval's own
    tables.
    """
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    filters = {line.get("filter", "none") for line in lines}
    samples: dict[Any, tuple[str, dict[str, Any]]] = {}
    for line in lines:
        problem = str(line.get("doc_hash") or line["doc_id"])
        _, values = samples.setdefault(line["doc_id"], (problem, {}))
        suffix = f",{line['filter']}" if len(filters) > 1 else ""
        values |= {name + suffix: line[name] for name in line["metrics"]}
    return "lm-eval", list(samples.values())


def _inspect_json(path: Path) -> tuple[str, Rows]:
    content = json.loads(path.read_text(encoding="utf-8"))
    _finished(path, content)
    return "inspect", _inspect(content["samples"])


def _finished(path: Path, header: dict[str, Any]) -> None:
    """Raises `RunFailed` for a log of inspect whose run did not."""
    if header.get("status", "success") != "success":
        reason = (header.get("error") or {}).get("message", header["status"])
        raise RunFailed(f"{path.name}: the run did not finish: {reason[:200]}", "run it again")


def _inspect_archive(path: Path) -> tuple[str, Rows]:
    """A zip of one JSON file a sample; newer ones are packed in a way that the standard library cannot read before
    Python 3.14.
    """
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.startswith("samples/") and name.endswith(".json"))
        if all(archive.getinfo(name).compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for name in names):
            header = {"status": "started"}
            if "header.json" in archive.namelist():
                header = json.loads(archive.read("header.json"))
            _finished(path, header)
            return "inspect", _inspect(json.loads(archive.read(name)) for name in names)
    return "inspect", _inspect(_read_by_inspect(path))


def _read_by_inspect(path: Path) -> list[dict[str, Any]]:
    """The samples; raises `MissingExtra` without inspect."""
    try:
        from inspect_ai.log import read_eval_log
    except ModuleNotFoundError:
        raise missing(f"{path.name} is packed with zstandard, which inspect itself reads", "inspect") from None
    log = read_eval_log(str(path))
    _finished(path, {"status": log.status, "error": {"message": log.error.message} if log.error else None})
    return [sample.model_dump() for sample in log.samples or []]


def _inspect(samples: Iterable[dict[str, Any]]) -> Rows:
    ordered = sorted(samples, key=lambda sample: (str(sample["id"]), sample.get("epoch", 1)))
    return [
        (str(sample["id"]), {name: score["value"] for name, score in (sample.get("scores") or {}).items()})
        for sample in ordered
    ]


def _lighteval(path: Path) -> tuple[str, Rows]:
    """A row a sample: `metric` (or `metrics`, older) maps names to values; the problem is its `doc.id`, else its
    question.
    """
    from pyarrow import parquet

    rows: Rows = []
    for number, row in enumerate(parquet.read_table(path).to_pylist()):
        doc = row.get("doc") or {}
        problem = doc.get("id") or doc.get("query") or row.get("example") or row.get("full_prompt") or str(number)
        values = row["metric"] if "metric" in row else row["metrics"]
        rows.append((str(problem), json.loads(values) if isinstance(values, str) else dict(values)))
    return "lighteval", rows
