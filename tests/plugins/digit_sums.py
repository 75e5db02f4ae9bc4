"""A benchmark: `3+4=` -> 7."""

from collections.abc import Sequence

from resa_hub.evaluation.benchmarks import grading
from resa_hub.evaluation.benchmarks.base import Grade, GradedCompletion, Problem


class DigitSums:
    name, revision, splits = "digit-sums", "1", ("test",)
    grading = grading.rule("answer-tag").version
    temperature, top_p, new_tokens = 0.6, 1.0, 24

    def __init__(self, name: str, entry: object) -> None: ...

    def problems(self, split: str | None = None, count: int | None = None, problem_seed: int = 0) -> list[Problem]:
        sums = [(a, b) for a in range(5) for b in range(5)][:count]
        return [Problem(f"{a}+{b}=", f"{a}+{b}=", str(a + b)) for a, b in sums]

    def grades(self, completions: Sequence[GradedCompletion]) -> list[Grade]:
        return grading.grades("answer-tag", completions)
