"""tiny-chain: left-to-right arithmetic modulo 10 for the embedded family.

Example: `7*7-8+6-4=` -> `<think>7*7=9;9-8=1;1+6=7;7-4=3</think><answer>3</answer>`; chance is 10%.
"""

from collections.abc import Sequence

from ...config.schema import BenchmarkEntry as Entry
from ...core.errors import Usage
from ...data.tiny import task
from . import grading
from .base import Grade, GradedCompletion, Problem

MOST, USUAL = 5_000, 500
RULE = "answer-tag"


class TinyChain:
    revision = "generator-1"
    grading = grading.rule(RULE).version
    temperature, top_p = 0.6, 1.0
    new_tokens = 72
    splits: tuple[str, ...] = ("test", "dev", "train")

    def __init__(self, name: str = "tiny-chain", entry: Entry | None = None) -> None:
        self.name = name

    def problems(self, split: str | None = None, count: int | None = None, problem_seed: int = 0) -> list[Problem]:
        split, count = split or self.splits[0], USUAL if count is None else count
        if split not in task.SPLITS:
            raise Usage(f"tiny-chain has no split {split!r}", f"it has {', '.join(task.SPLITS)}")
        if not 2 <= count <= MOST:
            raise Usage(f"{count} problems cannot be judged", f"ask for 2 to {MOST:,}")
        drawn = task.problems(count, split, problem_seed)
        return [Problem(problem.text, problem.text, problem.answer) for problem in drawn]

    def grades(self, completions: Sequence[GradedCompletion]) -> list[Grade]:
        return grading.grades(RULE, completions)
