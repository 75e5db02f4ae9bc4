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
from ...data.columns import column_of
from . import answers, grading, prompts
from .base import Grade, GradedCompletion, Problem

FULL, DEV, TEST = "full", "dev", "test"
RowReader = Callable[[], tuple[list[dict[str, Any]], str]]


class Table:
    """Splits of the one published split: `full` is all of it; `dev` (two tenths) and `test` (the rest) part it by the
    hash of the question.

    Published scores are those of `full`. Whoever chooses a layer or a checkpoint does it on `dev` and judges on `test`.
    """

    splits: tuple[str, ...] = (FULL, DEV, TEST)

    def __init__(self, name: str, entry: Entry, reader: RowReader | None = None) -> None:
        """reader: for rows that are no data set; gives them and their revision."""
        self.name, self.entry, self.reader = name, entry, reader
        self.grading = grading.rule(entry.grading).version
        self.temperature, self.top_p, self.new_tokens = entry.temperature, entry.top_p, entry.new_tokens
        self.prompt = entry.prompt or grading.rule(entry.grading).prompt

    @cached_property
    def _content(self) -> tuple[list[dict[str, Any]], str]:
        """(rows, revision)."""
        try:
            records, revision = self.reader() if self.reader else datasets.records(self.entry)
        except NotFound as error:
            local = is_path(self.entry.id) or self.entry.id.endswith(DATA_SUFFIXES)
            raise NotFound(error.message, error.hint if local else f"{error.hint}; {self._copy_hint()}") from None
        except datasets.OUT_OF_REACH as error:
            if self.reader:
                raise
            message = f"benchmark {self.name!r}: {error.message}"
            raise type(error)(message, f"{error.hint}, or {self._copy_hint()}") from None
        if not records:
            raise RunFailed(f"benchmark {self.name!r} has no rows in {self.entry.id}", "it needs one row a problem")
        return records, revision or "sha256:" + digest(json.dumps(records, default=str))

    def _copy_hint(self) -> str:
        return f"name a local copy: --benchmark {self.name}=./{self.name}.parquet"

    @property
    def revision(self) -> str:
        return self._content[1]

    def problems(self, split: str | None = None, count: int | None = None, problem_seed: int = 0) -> list[Problem]:
        split = split or FULL
        self.check_request(split, problem_seed)
        problems = _of_split(split, [self._row(row, number) for number, row in enumerate(self._content[0], 1)])
        if len(problems) < 2 or (count is not None and not 2 <= count <= len(problems)):
            refused = f"{count} problems cannot be judged: " if count is not None else ""
            raise Usage(
                f"{refused}{self.name} has {len(problems)} problems in its split {split}",
                f"ask for 2 to {len(problems)}, or for another --split",
            )
        self._check_golds(problems[:count])
        return problems[:count]

    @property
    def at_hand(self) -> bool:
        """Whether the rows come from a package or a local file."""
        return self.reader is not None or datasets.is_local(self.entry)

    def check_request(self, split: str, problem_seed: int) -> None:
        """Raise `Usage` for a split that there is not, and for a problem seed."""
        if split not in self.splits:
            raise Usage(f"{self.name} has no split {split!r}", f"it has {', '.join(self.splits)}")
        if problem_seed:
            raise Usage(
                f"{self.name} is a fixed set of problems: it has no problem seed {problem_seed}",
                "leave --problem-seed out",
            )

    def grades(self, completions: Sequence[GradedCompletion]) -> list[Grade]:
        return grading.grades(self.entry.grading, completions)

    def _row(self, row: dict[str, Any], number: int) -> Problem:
        """Raises `Usage` naming the row of a local file that lacks a question or an answer."""
        if datasets.is_local(self.entry):
            self._check_row(row, number)
        return self._problem(row)

    def _check_row(self, row: dict[str, Any], number: int) -> None:
        first = self._content[0][0]
        for part in ("question", "answer"):
            column = self._column(part, first).partition(".")[0]
            if row.get(column) in (None, ""):
                [where] = datasets.places(self.entry, [number])
                raise Usage(f"{where} of {self.entry.id} has no {column}", "mend that row, or leave it out")
            if part == "question" and isinstance(row[column], int | float):
                [where] = datasets.places(self.entry, [number])
                raise Usage(f"{where} of {self.entry.id}: {column} is {row[column]}, not text", "mend that row")

    def _problem(self, row: dict[str, Any]) -> Problem:
        published, gold = self._text(row, self._column("question", row)), self._gold(row)
        choices: list[str] = []
        if self.entry.choices:
            choices = [gold, *(self._text(row, column) for column in self.entry.choices)]
            choices.sort(key=lambda choice: digest(f"{published}\0{choice}"))
            gold = "ABCDEFGHIJ"[choices.index(gold)]
        question = prompts.render(self.prompt, published, choices)
        return Problem(id=digest(question)[:16], question=question, answer=gold, published=published)

    def _gold(self, row: dict[str, Any]) -> str:
        text = self._text(row, self._column("answer", row))
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
        return self._read(lambda: datasets.field(row, column, self.name).strip())

    def _column(self, part: str, row: dict[str, Any]) -> str:
        return self._read(lambda: column_of(part, getattr(self.entry, part), list(row), self.name))

    def _read(self, text: Callable[[], str]) -> str:
        """Errors speak of the benchmark."""
        try:
            return text()
        except Usage as error:
            raise Usage(
                f"benchmark {error.message.removeprefix('data set ')}",
                f"say which: {self.entry.id}:question=COLUMN,answer=COLUMN, or in its entry of registry.yaml",
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


def _of_split(split: str, problems: list[Problem]) -> list[Problem]:
    """Its problems in the order of the hash that parts the splits, so that the first n are a fair sample; a question
    asked twice counts once.
    """
    distinct = {problem.id: problem for problem in problems}.values()
    hashed = sorted((digest(normalised(problem.published)), problem) for problem in distinct)
    dev = {hash_: int(hash_[:8], 16) % 10 < 2 for hash_, _ in hashed}
    return [problem for hash_, problem in hashed if split == FULL or dev[hash_] == (split == DEV)]


def normalised(text: str) -> str:
    """What two copies of one question share: letters and digits, lower case."""
    return re.sub(r"[\W_]+", " ", text.casefold()).strip()


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
