"""The plan of an evaluation: which arms answer which problems, and how they are sampled."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..adapter.results import TEST
from ..adapter.workspace import Workspace
from ..config.methods import ARMS
from ..core.errors import Usage
from ..data import tiny
from ..data.snapshots import Files, locate
from ..hub.resolve import FittedAdapter, choose_adapter, fitting_adapter
from . import benchmarks
from .arms import BASE, PROMPT, SOURCE, USUAL, Arm, adapter_arms, arm_kinds, peer, source_arms
from .benchmarks.base import Benchmark, Problem
from .sampling.jobs import Engines, SamplingConfig


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
        if self.samples < 1 or self.seeds < 0 or (self.new_tokens is not None and self.new_tokens < 1):
            raise Usage("samples, controls and new tokens are counts", "--samples 4 --controls 3")


@dataclass(frozen=True)
class EvaluationPlan:
    settings: EvalSettings
    """With the split and the number of problems that are meant."""
    benchmark: Benchmark
    problems: list[Problem]
    target_name: str
    target: Files
    adapters: dict[str, FittedAdapter]
    """By NAME@VERSION, which is also the name of the adapter's arm."""
    arms: list[Arm]
    """Base first."""

    @property
    def sampling(self) -> SamplingConfig:
        settings, benchmark = self.settings, self.benchmark
        return SamplingConfig(
            benchmark=benchmark.name,
            problems=self.problems,
            samples=settings.samples,
            greedy=settings.greedy,
            temperature=benchmark.temperature,
            top_p=benchmark.top_p,
            new_tokens=settings.new_tokens or benchmark.new_tokens,
            seed=settings.seed,
            engines=settings.engines,
        )


def plan(
    names: Sequence[str], target: str, settings: EvalSettings, workspace: Workspace, force: bool = False
) -> EvaluationPlan:
    """Which arms are run on which problems; nothing is generated. Raises `NotFound`, `DoesNotFit`, `NoEffect`,
    `Usage`.
    """
    settings.check()
    if not names:
        raise Usage("no adapter is named", "resa-hub eval NAME --target TARGET")
    benchmark = benchmarks.load(settings.benchmark, workspace.registry)
    problems = benchmark.problems(settings.split, settings.problems, settings.problem_seed)
    settings = replace(settings, split=settings.split or benchmark.splits[0], problems=len(problems))
    choices = [choose_adapter(name, target, workspace.registry) for name in names]
    files = locate(choices[0].target.base)
    adapters: dict[str, FittedAdapter] = {}
    for choice in choices:
        fitted = fitting_adapter(choice, workspace, files, force, zero=True)
        adapters[fitted.adapter.manifest.reference] = fitted
    return EvaluationPlan(
        settings=settings,
        benchmark=benchmark,
        problems=problems,
        target_name=target,
        target=files,
        adapters=adapters,
        arms=_arms(adapters, settings, workspace, files),
    )


def quick(settings: EvalSettings, target: str, workspace: Workspace) -> EvalSettings:
    """The same question in minutes, on a model of 1.5B and one GPU: a fixed part of math500, answers of at most 4,096
    tokens, one control an adapter.

    The embedded family is asked tiny-chain.
    """
    embedded = choose_adapter(None, target, workspace.registry).target.base.id.startswith(tiny.PREFIX)
    small = replace(settings, samples=2, seeds=1, split=None, problem_seed=0, greedy=False)
    if embedded:
        return replace(small, benchmark="tiny-chain", problems=200, new_tokens=None)
    return replace(small, benchmark="math500", problems=100, new_tokens=4096)


def _arms(adapters: dict[str, FittedAdapter], settings: EvalSettings, workspace: Workspace, target: Files) -> list[Arm]:
    """Base and source, the adapters with their controls, and what other methods made. Raises `Usage`."""
    kinds = arm_kinds(settings.arms)
    sources = {fitted.adapter.manifest.source for fitted in adapters.values()}
    if len(sources) > 1:
        raise Usage(
            f"the adapters come from different sources: {', '.join(sorted(sources))}", "evaluate them one at a time"
        )
    arms = [Arm(BASE, BASE, target)]
    if SOURCE in kinds:
        first = next(iter(adapters.values())).adapter
        arms += source_arms(first.manifest, target)
    if PROMPT in kinds:
        arms.append(Arm(PROMPT, PROMPT, target, template="r1"))
    controls = workspace.cache / "controls"
    for label, (adapter, fit) in adapters.items():
        # Controls of a zero adapter's norm would be zero too.
        arms += adapter_arms(adapter, label, target, controls, settings.seeds, () if fit.zero else kinds)
    return arms + _peers(adapters, kinds, workspace, target)


def _peers(adapters: dict[str, FittedAdapter], kinds: Sequence[str], workspace: Workspace, target: Files) -> list[Arm]:
    """What other methods made of the same source and data, where the store has it and nobody named it."""
    methods = [method for method in ARMS if method in kinds]
    stored = workspace.store.readable()[0] if methods else []
    arms: dict[str, Arm] = {}
    for adapter, _ in adapters.values():
        for method in methods:
            found = peer(adapter, stored, method)
            if found and found.manifest.reference not in adapters:
                name = found.manifest.reference
                arms[name] = Arm(name, method, target, found.folder, texts=found.manifest.probe_texts)
    return list(arms.values())
