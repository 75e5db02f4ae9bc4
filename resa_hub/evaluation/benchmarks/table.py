"""A benchmark that is a table: rows of a Hub data set or of a local file, columns mapped by the registry."""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from ...config.refs import DATA_SUFFIXES, is_path
from ...config.schema import BenchmarkEntry as Entry
from ...core.errors import NotFound, RunFailed, Usage
from ...data import datasets
from . import answers, grading, prompts
from .base import Grade, GradedCompletion, Problem

FULL, DEV, TEST = "full", "dev", "test"
Reader = Callable[[], tuple[list[dict[str, Any]], str]]


class Table:
    """Splits of the one published split: `full` is all of it; `dev` (two tenths) and `test` (the rest) part it by the
    hash of the question.

    Published scores are those of `full`. Whoever chooses a layer or a checkpoint does it on `dev` and judges on `test`.
    """

    splits: tuple[str, ...] = (FULL, DEV, TEST)

    def __init__(self, name: str, entry: Entry, reader: Reader | None = None) -> None:
        """reader: for rows that are no data set; gives them and their revision."""
        self.name, self.entry, self.reader = name, entry, reader
        self.grading = grading.rule(entry.grading).version
        self.temperature, self.top_p, self.new_tokens = entry.temperature, entry.top_p, entry.new_tokens
        self.prompt = entry.prompt or grading.rule(entry.grading).prompt

    @cached_property
    def _read(self) -> tuple[list[dict[str, Any]], str]:
        local = is_path(self.entry.id) or self.entry.id.endswith(DATA_SUFFIXES)
        try:
            records, revision = self.reader() if self.reader else datasets.records(self.entry)
        except NotFound as error:
            raise NotFound(error.message, error.hint if local else f"{error.hint}; {self._copy_hint()}") from None
        except datasets.OUT_OF_REACH as error:
            if self.reader:
                raise
            raise type(error)(
                f"benchmark {self.name!r}: {error.message}", f"{error.hint}, or {self._copy_hint()}"
            ) from None
        if not records:
            raise RunFailed(f"benchmark {self.name!r} has no rows in {self.entry.id}", "it needs one row a problem")
        return records, revision or "sha256:" + digest(json.dumps(records, default=str))

    def _copy_hint(self) -> str:
        return f"name a local copy: --benchmark {self.name}=./{self.name}.parquet"

    @property
    def revision(self) -> str:
        return self._read[1]

    def problems(self, split: str | None = None, count: int | None = None, draw: int = 0) -> list[Problem]:
        split = split or FULL
        if split not in self.splits:
            raise Usage(f"{self.name} has no split {split!r}", f"it has {', '.join(self.splits)}")
        if draw:
            raise Usage(f"{self.name} is a fixed set of problems: it has no draw {draw}", "leave --draw out")
        rows = [self._problem(row) for row in self._read[0]]
        found = [problem for tenth, problem in _distinct(rows) if split == FULL or (split == DEV) == (tenth < 2)]
        if len(found) < 2 or (count is not None and not 2 <= count <= len(found)):
            asked = f"{count} problems cannot be judged: " if count is not None else ""
            raise Usage(
                f"{asked}{self.name} has {len(found)} problems in its split {split}",
                f"ask for 2 to {len(found)}, or for another --split",
            )
        chosen = found[:count]
        self._check_golds(chosen)
        return chosen

    def grades(self, completions: Sequence[GradedCompletion]) -> list[Grade]:
        return grading.grades(self.entry.grading, completions)

    def _problem(self, row: dict[str, Any]) -> tuple[str, Problem]:
        """(the question as it is published, the problem as it is asked)."""
        said, gold = self._text(row, self.entry.question), self._gold(row)
        choices: list[str] = []
        if self.entry.choices:
            choices = [gold, *(self._text(row, column) for column in self.entry.choices)]
            choices.sort(key=lambda choice: digest(f"{said}\0{choice}"))
            gold = "ABCDEFGHIJ"[choices.index(gold)]
        asked = prompts.render(self.prompt, said, choices)
        return said, Problem(digest(asked)[:16], asked, gold, said)

    def _gold(self, row: dict[str, Any]) -> str:
        text = self._text(row, self.entry.answer)
        if self.entry.gold == "box":
            return answers.last_box(text) or ""
        if self.entry.gold == "hashes":
            return text.rpartition("####")[2].strip()
        return text

    def _text(self, row: dict[str, Any], column: str) -> str:
        """A cell as text: a list is joined by commas, an empty cell is the empty text."""
        value: Any = row.get(column)
        value = value.tolist() if hasattr(value, "tolist") else value
        if isinstance(value, list | tuple) and not any(isinstance(part, dict) for part in value):
            return ", ".join(map(str, value))
        if column in row and (value is None or value != value):
            return ""
        try:
            return datasets.field(row, column, self.name).strip()
        except Usage as error:
            raise Usage(
                f"benchmark {error.message.removeprefix('data set ')}",
                "a file needs the columns problem and answer; a registry entry names its own",
            ) from None

    def _check_golds(self, problems: list[Problem]) -> None:
        """Before hours of sampling: a column that holds no answers at all is the wrong one. Single ones are counted
        when they are graded.
        """
        golds = [problem.answer for problem in problems]
        if len(grading.unreadable(self.entry.grading, golds)) == len(golds):
            example = json.dumps(golds[0][:60], ensure_ascii=False)
            raise RunFailed(
                f"benchmark {self.name!r}: none of {len(golds)} answers can be read by the grading "
                f"{self.entry.grading!r}; the first is {example}",
                "check the column `answer`, or name another grading: exact=FILE",
            )


def _distinct(rows: list[tuple[str, Problem]]) -> list[tuple[int, Problem]]:
    """(tenth that decides the split, problem), in the order of a hash, so that the first n are a fair sample; a
    question asked twice counts once.
    """
    found = {problem.id: (said, problem) for said, problem in rows}
    hashed = sorted((digest(normalised(said)), problem) for said, problem in found.values())
    return [(int(hash_[:8], 16) % 10, problem) for hash_, problem in hashed]


def normalised(text: str) -> str:
    """What two copies of one question share: letters and digits, lower case."""
    return re.sub(r"[\W_]+", " ", text.casefold()).strip()


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
