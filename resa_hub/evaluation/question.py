"""What is asked of a target, whatever the adapters: settings, benchmark, problems. Nothing is fetched."""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from ..adapter.results import TEST
from ..adapter.workspace import Workspace
from ..config.refs import ModelRef
from ..core.errors import Usage
from ..data import tiny
from ..data.at_hand import at_hand
from ..data.own_models import model_config
from ..data.snapshots import Files
from . import benchmarks
from .arms import USUAL, arm_kinds
from .benchmarks.base import Benchmark, Problem
from .benchmarks.table_benchmark import DEV, FULL, Table
from .sampling.context import check_prompts
from .sampling.engines import Engines

MOST_SAMPLES, MOST_CONTROLS, MOST_TOKENS, MOST_PROBLEMS = 10_000, 100, 1_000_000, 1_000_000
"""More are a slip of the hand."""
MOST_TINY = 64
"""Tokens that a vocabulary of the embedded family's task has at most; that of a language has thousands."""
DEV_SHARE = 0.2
"""Of a table's problems, about: a hash decides."""


@dataclass(frozen=True)
class EvalSettings:
    benchmark: str = "tiny-chain"
    problems: int | None = None
    """None: all of a fixed benchmark, the usual number of a generated one."""
    samples: int = 4
    seeds: int = 3
    """Random controls for each adapter."""
    split: str | None = None
    """None: the benchmark's own first."""
    seed: int = 0
    greedy: bool = True
    problem_seed: int = 0
    """Which problems of a generated benchmark: those of another seed were not looked at while methods were developed.
    """
    arms: tuple[str, ...] = USUAL
    """Kinds of arms beside base and the adapters: some of `evaluation.arms.CHOICES`."""
    engines: Engines = field(default_factory=Engines)
    new_tokens: int | None = None
    """Budget of an answer; None: the benchmark's."""
    purpose: str = TEST
    """Or MODEL_SELECTION, which stays with the adapter."""

    def check(self) -> None:
        """Raise `Usage` for counts out of their range, arms and engines that are none, `MissingExtra` for an engine
        that is not installed.
        """
        counts = (
            ("--problems", self.problems, 2, MOST_PROBLEMS),
            ("--samples", self.samples, 1, MOST_SAMPLES),
            ("--controls", self.seeds, 0, MOST_CONTROLS),
            ("--new-tokens", self.new_tokens, 1, MOST_TOKENS),
        )
        for option, value, low, high in counts:
            if value is not None and not low <= value <= high:
                allowed = f"it must be between {low:,} and {high:,}"
                raise Usage(f"{option} is {value:,}: {allowed}", f"{option} {max(low, 4)}")
        if self.seed < 0:
            raise Usage(f"--seed is {self.seed}: it must be at least 0", "--seed 0")
        arm_kinds(self.arms)
        self.engines.check()


class Question(NamedTuple):
    settings: EvalSettings
    """With the split that is meant."""
    benchmark: Benchmark
    problems: list[Problem] | None
    """None where they have yet to be fetched."""
    count: int | None
    """Problems, as the registry says where they have yet to be fetched; None where it does not."""
    target_name: str
    target: ModelRef
    files: Files | None
    """The target's, where it is here."""
    config: dict[str, Any]
    """Of the target: config.json, or what the registry says of it."""


def ask(target: str, settings: EvalSettings, workspace: Workspace) -> Question:
    """Raises `Usage`, `NotFound`, `MissingExtra` and `DoesNotFit` for what cannot be asked, and as loading local
    problems does.
    """
    question = _opened(target, settings, workspace)
    if question.files and question.problems:
        texts = [problem.question for problem in question.problems]
        check_prompts(question.files, texts, settings.new_tokens or question.benchmark.new_tokens, settings.benchmark)
    return question


def _opened(target: str, settings: EvalSettings, workspace: Workspace) -> Question:
    settings.check()
    benchmark = benchmarks.load(settings.benchmark, workspace.registry)
    split = settings.split or benchmark.splits[0]
    if isinstance(benchmark, Table) and not benchmark.at_hand:
        benchmark.check_request(split, settings.problem_seed)
        problems, count = None, _expected(benchmark, split, settings.problems)
    else:
        problems = benchmark.problems(split, settings.problems, settings.problem_seed)
        count = len(problems)
    ref = workspace.registry.require_base_model(target)
    settings = replace(settings, split=split)
    config = model_config(ref, target, workspace.registry)
    return Question(settings, benchmark, problems, count, target, ref, at_hand(ref.base), config)


def at_most(count: int, target: str, settings: EvalSettings, workspace: Workspace) -> EvalSettings:
    """The settings with `count` problems, or with all of a split that has fewer, be it by an estimate; raises as
    `ask`.
    """
    there = available_problems(_opened(target, replace(settings, problems=None), workspace))
    return replace(settings, problems=count if there is None or there >= count else None)


def check_usual_benchmark(target: str, workspace: Workspace) -> None:
    """Raise `Usage` where the usual benchmark, the task of the embedded family, says nothing about the target."""
    ref = workspace.registry.require_base_model(target)
    if not knows_tiny_alone(ref, target, workspace):
        raise Usage(
            f"no benchmark is named, and {target} is none of the tiny models", "--benchmark math500, or ./test.jsonl"
        )


def knows_tiny_alone(ref: ModelRef, target: str, workspace: Workspace) -> bool:
    """Is it of the embedded family, or a model of its few characters alone."""
    if ref.base.id.startswith(tiny.PREFIX):
        return True
    return model_config(ref, target, workspace.registry).get("vocab_size", MOST_TINY + 1) <= MOST_TINY


def _expected(benchmark: Table, split: str, asked: int | None) -> int | None:
    """How many problems there will be, as the registry says; raises `Usage` where it says that there are too few."""
    whole = benchmark.entry.problems
    if whole is None:
        return asked
    if split == FULL and asked and asked > whole:
        raise Usage(
            f"{asked} problems cannot be judged: {benchmark.name} has {whole} problems in its split {split}",
            f"ask for 2 to {whole}, or for another --split",
        )
    share = {FULL: 1.0, DEV: DEV_SHARE}.get(split, 1 - DEV_SHARE)
    return min(asked or whole, round(whole * share))


def available_problems(question: Question) -> int | None:
    """All problems of the split; None for a generator, and where nothing tells it."""
    benchmark, split = question.benchmark, question.settings.split
    if FULL not in benchmark.splits:
        return None
    if question.problems is not None:
        return len(benchmark.problems(split))
    return _expected(benchmark, split or FULL, None) if isinstance(benchmark, Table) else None
