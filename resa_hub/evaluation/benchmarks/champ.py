"""CHAMP (Mao et al. 2024, arXiv 2401.06961): competition problems from the package champ-dataset, no network; those
whose answer is one integer.

The other answers are formulas in plain text, yes or no, or proofs: no rule grades them reliably.
"""

import json
import re
from typing import Any

from ...config.schema import BenchmarkEntry as Entry
from ...core.install import missing
from .table_benchmark import Table

INTEGER = re.compile(r"-?\d[\d,]*")


def champ(name: str, entry: Entry) -> Table:
    return Table(name, entry, rows)


def rows() -> tuple[list[dict[str, Any]], str]:
    """(problem and answer, version); raises `MissingExtra`."""
    from importlib import metadata, resources

    try:
        content = resources.files("champ_dataset").joinpath("dataset_files/v0.json").read_text(encoding="utf-8")
    except ModuleNotFoundError:
        raise missing("the package champ-dataset is missing", "champ") from None
    problems = json.loads(content)["problems"].values()
    table = [{"problem": problem["_text"], "answer": integer_of(problem["_answer"])} for problem in problems]
    return [row for row in table if row["answer"]], f"champ-dataset {metadata.version('champ-dataset')}"


def integer_of(text: str) -> str | None:
    """The integer of `C(10, 5), or equivalently 252`; None for any other answer."""
    answer = text.rpartition("equivalently")[2].strip().rstrip(".")
    return answer if INTEGER.fullmatch(answer) else None
