"""Families of reasoning-gym (Apache-2.0), generated from a seed: `reasoning-gym/basic_arithmetic`,
`reasoning-gym/basic_arithmetic@2` at a level of difficulty.

The package's own scoring decides, and only its full score counts: it gives parts of a point for answers that are wrong.
Answers stand in <answer> tags.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ...config.schema import BenchmarkEntry as Entry
from ...core.errors import NotFound, Usage, did_you_mean
from ...core.install import missing
from . import answers
from .base import Grade, GradedCompletion, Problem
from .table_benchmark import digest

USUAL, ROUNDS = 200, 60
INSTRUCTION = "\n\nPlease reason step by step, and put your final answer between <answer> and </answer>."
UNSEEDED = ("codeio",)
"""Not a function of their seed."""


class ReasoningGym:
    grading = "reasoning-gym-full-score-1"
    splits: tuple[str, ...] = ("test", "dev", "train")

    def __init__(self, name: str, entry: Entry) -> None:
        self.family, _, level = name.partition("/")[2].partition("@")
        if level and not level.isdecimal():
            raise Usage(f"{level!r} is not a level of difficulty", "for example reasoning-gym/basic_arithmetic@2")
        self.level = int(level) if level else None
        self.temperature, self.top_p, self.new_tokens = entry.temperature, entry.top_p, entry.new_tokens
        self.name = f"reasoning-gym-{self.family}" + (f"-level-{level}" if level else "")
        self.entries: dict[str, tuple[Any, dict[str, Any]]] = {}
        self._factory()

    @property
    def revision(self) -> str:
        from importlib import metadata

        return f"reasoning-gym {metadata.version('reasoning-gym')}"

    def problems(self, split: str | None = None, count: int | None = None, problem_seed: int = 0) -> list[Problem]:
        split, count = split or self.splits[0], USUAL if count is None else count
        if split not in self.splits:
            raise Usage(f"{self.name} has no split {split!r}", f"it has {', '.join(self.splits)}")
        if count < 2:
            raise Usage(f"{count} problems cannot be judged", "ask for 2 or more")
        problems: dict[str, Problem] = {}
        for source, entry in self._stream(count, problem_seed):
            question = entry["question"].strip() + INSTRUCTION
            problem = Problem(digest(question)[:16], question, str(entry["answer"]))
            if split_of(entry["question"]) == split and problem.id not in problems:
                problems[problem.id] = problem
                self.entries[problem.id] = source, entry
            if len(problems) == count:
                return list(problems.values())
        raise Usage(
            f"{self.name} has {len(problems)} different problems in its split {split}",
            "ask for fewer, or for a higher level",
        )

    def grades(self, completions: Sequence[GradedCompletion]) -> list[Grade]:
        """Of problems that this object made."""
        return [self._grade(completion) for completion in completions]

    def _grade(self, completion: GradedCompletion) -> Grade:
        behind = answers.after_thinking(completion.text)
        answer, note = (answers.tagged(behind) if behind is not None else None), ""
        if answer is None:
            answer, note = answers.tagged(completion.text), "answered while thinking"
        if answer is None:
            return Grade(strict=False, lenient=False, note="no answer")
        source, entry = self.entries[completion.problem.id]
        try:
            right = source.score_answer(answer.strip(), entry) == 1.0
        except Exception:  # the package's parsers fail on nonsense in many ways: such an answer is wrong
            right = False
        strict = right and completion.finished and not note
        return Grade(strict=strict, lenient=right, answer=answer.strip(), note=note)

    def _stream(self, count: int, problem_seed: int) -> Iterator[tuple[Any, dict[str, Any]]]:
        """(data set, entry) for the problem seed: as many as a split of `count` needs, since a split may be a tenth of
        them.
        """
        seed = int(digest(f"{self.family}:{problem_seed}")[:7], 16)
        source = self._factory()(seed, count * ROUNDS)
        for number in range(count * ROUNDS):
            yield source, source[number]

    def _factory(self) -> Callable[[int, int], Any]:
        """(seed, size) -> the package's data set; raises `MissingExtra`, `NotFound` or `Usage` for what it cannot
        make.
        """
        try:
            from reasoning_gym import factory
        except ModuleNotFoundError:
            raise missing("the package reasoning-gym is missing", "reasoning-gym") from None
        known = sorted(factory.DATASETS.keys() - set(UNSEEDED))
        if self.family not in known:
            raise NotFound(
                f"reasoning-gym has no family {self.family!r}",
                f"reasoning-gym/FAMILY; {did_you_mean(self.family, known)}",
            )
        if self.level is None:
            return lambda seed, size: factory.create_dataset(self.family, seed=seed, size=size)
        curriculum = self._curriculum(factory, self.level)
        dataset_class = factory.DATASETS[self.family][0]
        return lambda seed, size: dataset_class(curriculum.generate_configuration({"seed": seed, "size": size}))

    def _curriculum(self, factory: Any, level: int) -> Any:
        """The family's curriculum, every attribute at `level` or at its own highest one; raises `Usage`."""
        command = f"--benchmark reasoning-gym/{self.family}"
        if not factory.has_curriculum(self.family):
            raise Usage(f"{self.family} of reasoning-gym has no levels of difficulty", command)
        curriculum = factory.create_curriculum(self.family)
        highest = {name: len(attribute.levels) - 1 for name, attribute in curriculum.attributes.items()}
        most = max(highest.values(), default=0)
        if level > most:
            raise Usage(f"{self.family} of reasoning-gym has levels 0 to {most}", f"{command}@{most}")
        for name, own_highest in highest.items():
            curriculum.set_attr_level(name, min(level, own_highest))
        return curriculum


def split_of(question: str) -> str:
    """Eight tenths train, one tenth dev, one tenth test, by the hash of the question: disjoint by construction."""
    return {8: "dev", 9: "test"}.get(int(digest(question)[:8], 16) % 10, "train")
