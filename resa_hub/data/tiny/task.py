"""The task of the embedded family: left-to-right arithmetic modulo 10, such as `7*7-8+6-4=` -> `3`.

A problem belongs to one split by the hash of its text, so train, dev and test are disjoint by construction.
"""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass

SPLITS = ("train", "dev", "test")
OPERATORS, OPERATOR_WEIGHTS = "+-*", (0.35, 0.3, 0.35)
FACTORS = (3, 7, 9)
"""Multiplication only by units modulo 10, so that no step loses information."""


@dataclass(frozen=True)
class ChainProblem:
    numbers: tuple[int, ...]
    operators: tuple[str, ...]

    @property
    def text(self) -> str:
        return f"{self.numbers[0]}{_written(self.operators, self.numbers[1:])}="

    @property
    def values(self) -> list[int]:
        """The running value after each number; the last one is the answer."""
        values = [self.numbers[0]]
        for operator, number in zip(self.operators, self.numbers[1:], strict=True):
            values.append(apply(values[-1], operator, number))
        return values

    @property
    def answer(self) -> str:
        return str(self.values[-1])


def _written(operators: tuple[str, ...], numbers: tuple[int, ...]) -> str:
    return "".join(f"{operator}{number}" for operator, number in zip(operators, numbers, strict=True))


def apply(left: int, operator: str, right: int) -> int:
    result = {"+": left + right, "-": left - right, "*": left * right}[operator]
    return result % 10


def split_of(text: str) -> str:
    """Eight tenths train, one tenth dev, one tenth test."""
    tenth = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 10
    return {8: "dev", 9: "test"}.get(tenth, "train")


def random_operand(rng: random.Random, operator: str) -> int:
    return rng.choice(FACTORS) if operator == "*" else rng.randint(1, 9)


def draw(rng: random.Random, split: str) -> ChainProblem:
    """One problem of 4 to 6 operands of this split."""
    while True:
        operators = tuple(rng.choices(OPERATORS, OPERATOR_WEIGHTS)[0] for _ in range(rng.randint(3, 5)))
        problem = ChainProblem((rng.randint(1, 9), *(random_operand(rng, o) for o in operators)), operators)
        if split_of(problem.text) == split:
            return problem


def problems(count: int, split: str, seed: int) -> list[ChainProblem]:
    """`count` distinct problems of a split, a function of the seed alone."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; there are {', '.join(SPLITS)}")
    rng = random.Random(f"tiny-chain:{split}:{seed}")
    distinct: dict[ChainProblem, None] = {}
    while len(distinct) < count:
        distinct[draw(rng, split)] = None
    return list(distinct)


Merge = Callable[[ChainProblem, int], int]
"""(problem, index of the next operator) -> how many operations the next step of the chain does at once."""


def every_step(problem: ChainProblem, index: int) -> int:
    return 1


def merge_pairs(rng: random.Random, probability: float) -> Merge:
    return lambda problem, index: 2 if index + 1 < len(problem.operators) and rng.random() < probability else 1


def merge_before_minus(rng: random.Random, probability: float) -> Merge:
    """The habit planted in tiny-r1: where a `-` comes next, up to three operations are done in one step."""

    def merge(problem: ChainProblem, index: int) -> int:
        minus_ahead = index + 1 < len(problem.operators) and problem.operators[index + 1] == "-"
        return min(3, len(problem.operators) - index) if minus_ahead and rng.random() < probability else 1

    return merge


def chain(problem: ChainProblem, merge: Merge = every_step) -> str:
    """The reasoning text, `7*7=9;9-8=1;...`."""
    values, index, steps = problem.values, 0, []
    while index < len(problem.operators):
        end = index + merge(problem, index)
        operations = _written(problem.operators[index:end], problem.numbers[index + 1 : end + 1])
        steps.append(f"{values[index]}{operations}={values[end]}")
        index = end
    return ";".join(steps)


def completion(thought: str, answer: str) -> str:
    return f"<think>{thought}</think><answer>{answer}</answer>"
