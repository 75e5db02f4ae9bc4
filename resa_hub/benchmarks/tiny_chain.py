"""tiny-chain: left-to-right arithmetic modulo 10 for the embedded family.

Example: `7*7-8+6-4=` -> `<think>7*7=9;9-8=1;1+6=7;7-4=3</think><answer>3</answer>`; chance is 10%.
"""

from ..errors import Usage
from ..tiny import task
from .base import Grade, Problem

MOST = 5_000


class TinyChain:
    name = "tiny-chain"
    grading = "answer-tag-1"
    temperature = 0.6
    new_tokens = 72

    def problems(self, split: str, count: int, seed: int = 0) -> list[Problem]:
        if split not in task.SPLITS:
            raise Usage(f"tiny-chain has no split {split!r}", f"it has {', '.join(task.SPLITS)}")
        if not 2 <= count <= MOST:
            raise Usage(f"{count} problems cannot be judged", f"ask for 2 to {MOST:,}")
        return [Problem(problem.text, problem.text, problem.answer) for problem in task.problems(count, split, seed)]

    def grade(self, problem: Problem, text: str, finished: bool) -> Grade:
        tagged, closed = text.rpartition("<answer>")[2], text.endswith("</answer>")
        right = "<answer>" in text and tagged.removesuffix("</answer>") == problem.answer
        return Grade(right and closed and finished, right)
