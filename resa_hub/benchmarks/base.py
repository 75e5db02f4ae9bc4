"""What a benchmark is: problems of a split, and a grade for a completion."""

from typing import NamedTuple, Protocol


class Problem(NamedTuple):
    id: str
    question: str
    answer: str


class Grade(NamedTuple):
    strict: bool
    """Right, in the asked format, and finished."""
    lenient: bool
    """Right by any reading."""


class Benchmark(Protocol):
    name: str
    grading: str
    """Version of the grading rule."""
    temperature: float
    new_tokens: int

    def problems(self, split: str, count: int, seed: int = 0) -> list[Problem]:
        """The first `count` problems of a split; raises `Usage` for an unknown split or too many."""
        ...

    def grade(self, problem: Problem, text: str, finished: bool) -> Grade: ...
