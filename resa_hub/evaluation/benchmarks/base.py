"""What a benchmark is: problems of a split, how they are asked, and a grade for a completion.

The outcome of comparing one answer with the gold stands here too, since rules of grading and the processes that compare
share it.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Problem(NamedTuple):
    id: str
    """Equal ids mean equal questions: samples are kept by it."""
    question: str
    """The user's turn as the model is asked it, instruction and choices included; the chat template is the model's own.
    """
    answer: str
    """Gold."""
    published: str = ""
    """The question as it is published, without instruction and choices; empty where that is `question` itself."""


class Grade(NamedTuple):
    strict: bool
    """Right, in the asked format, behind the thinking, and finished."""
    lenient: bool
    """Right by any reading."""
    answer: str = ""
    """The answer as it was read from the completion."""
    note: str = ""
    """Why the grade says less than it seems: `no answer`, `answered while thinking`, `unreadable gold`, `time-out`;
    counted in the report.
    """


class GradedCompletion(NamedTuple):
    """A completion to be graded."""

    problem: Problem
    text: str
    finished: bool
    """False where the budget of new tokens ran out."""


class Pair(NamedTuple):
    """One question to a rule of grading: does the answer equal the gold?"""

    gold: str
    answer: str | None
    """None asks whether the gold can be read at all."""
    loose: bool = False
    """The answer was found outside of the asked format."""


UNREADABLE, TIMED_OUT = "unreadable gold", "time-out"
Outcome = bool | str
"""Equal or not, or why nobody knows: UNREADABLE, TIMED_OUT."""


class Benchmark(Protocol):
    name: str
    """Letters, digits, dot, dash: part of file names."""
    grading: str
    """Version of the grading rule."""
    temperature: float
    top_p: float
    new_tokens: int
    splits: tuple[str, ...]
    """The first one is taken when none is asked for."""

    @property
    def revision(self) -> str:
        """Of the problems: a commit, the digest of a file, the version of a generator."""
        ...

    def problems(self, split: str | None = None, count: int | None = None, problem_seed: int = 0) -> list[Problem]:
        """`count` problems of a split, all of them (of a generator: its usual number) for None; fewer are always a part
        of more.

        problem_seed: which problems of a generator. Raises `Usage` for an unknown split, too many, or the problem seed
        of a fixed set.
        """
        ...

    def grades(self, completions: Sequence[GradedCompletion]) -> list[Grade]: ...
