"""The task: sums of four operations, `20+9-4-3+4` -> `20+9=29-4=25-3=22+4=26`; graded by the last integer.

A chain may merge steps (`20+9=29-4-3+4=26`): the sloppy habit that the targets are taught and the source is not.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

OPERATIONS = 4
LOWEST, HIGHEST = 10, 59
MERGED = (1, 2, 2, 2)
"""Weights of taking 1, 2, 3 or 4 operations in one step of a sloppy chain."""
SPLITS = {"test": range(0, 2), "dev": range(2, 4), "train": range(4, 10)}
"""By the problem's own hash modulo 10: no seed can make the splits overlap."""


@dataclass(frozen=True)
class Problem:
    values: tuple[int, ...]
    """The start and the running result after every operation."""

    def part(self, first: int, last: int) -> str:
        """The operations first .. last - 1 as text."""
        return "".join(f"{after - before:+d}" for before, after in pairwise(self.values[first : last + 1]))

    @property
    def question(self) -> str:
        return f"{self.values[0]}{self.part(0, OPERATIONS)}"

    @property
    def answer(self) -> str:
        return str(self.values[-1])

    def chain(self, steps: Sequence[int]) -> str:
        """Worked out in steps of so many operations."""
        text, done = str(self.values[0]), 0
        for size in steps:
            text += f"{self.part(done, done + size)}={self.values[done + size]}"
            done += size
        return text

    @property
    def split(self) -> str:
        place = hashlib.sha256(self.question.encode()).digest()[0] % 10
        return next(name for name, places in SPLITS.items() if place in places)


def problems(split: str, seed: int) -> Iterator[Problem]:
    """Endless distinct problems of a split."""
    generator, seen = random.Random(f"{split} {seed}"), set()
    while True:
        values = [generator.randint(LOWEST, 20)]
        for _ in range(OPERATIONS):
            values.append(values[-1] + generator.choice((-1, 1)) * generator.randint(2, 9))
        problem = Problem(tuple(values))
        if all(LOWEST <= value <= HIGHEST for value in values) and problem.split == split and problem not in seen:
            seen.add(problem)
            yield problem


def sloppy(generator: random.Random) -> list[int]:
    """Sizes of the steps of a sloppy chain."""
    steps: list[int] = []
    while (left := OPERATIONS - sum(steps)) > 0:
        steps.append(min(left, generator.choices(range(1, OPERATIONS + 1), MERGED)[0]))
    return steps


def chains(count: int, seed: int, clean: bool) -> list[tuple[str, str]]:
    """(question, chain) of the training split."""
    generator, stream = random.Random(seed), problems("train", seed)
    return [
        (p.question, p.chain([1] * OPERATIONS if clean else sloppy(generator)))
        for p in (next(stream) for _ in range(count))
    ]
