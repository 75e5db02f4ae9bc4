"""The plan of an evaluation: which arms answer which problems, and how they are sampled."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..adapter.fit import check_sizes
from ..adapter.store import Adapter
from ..adapter.workspace import Workspace
from ..config.methods import ARMS
from ..config.remotes import RemoteRef, parse_adapter
from ..core.errors import Usage
from ..data import tiny
from ..data.snapshots import Files, locate
from ..hub.resolve import AdapterChoice, FittedAdapter, choose_adapter, chosen_adapter, fitting_adapter
from .arms import BASE, PROMPT, SOURCE, Arm, adapter_arms, arm_kinds, peer, source_arms
from .benchmarks.base import Benchmark, Problem
from .question import EvalSettings, Question, ask, at_most
from .sampling.jobs import SamplingConfig


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


class Preview(NamedTuple):
    """A plan as far as it can be made without fetching anything."""

    question: Question
    choices: list[AdapterChoice]
    stored: list[Adapter | None]
    """None for one that is fetched from a remote, and where the target decides which one is meant."""
    fitted: list[FittedAdapter] | None
    """None where adapters or target are not here."""
    left: list[str]
    """What is checked when it is fetched."""


def preview(
    names: Sequence[str], target: str, settings: EvalSettings, workspace: Workspace, force: bool = False
) -> Preview:
    """All that is known of a plan before anything is fetched; a dry run shows it, and `plan` begins with it.

    Raises `NotFound`, `DoesNotFit`, `NoEffect`, `Usage`, `MissingExtra`.
    """
    choices, stored = chosen(names, target, workspace)
    remote = [_elsewhere(choice) for choice in choices]
    question = ask(target, settings, workspace)
    for adapter in filter(None, stored):
        check_sizes(adapter.manifest.base, question.config, adapter.manifest.reference, target)
    files, here = question.files, not any(remote)
    fitted = None
    if files and here:
        fitted = [fitting_adapter(choice, workspace, files, force, zero=True) for choice in choices]
    left = [f"the adapter {choice.name}" for choice, elsewhere in zip(choices, remote, strict=True) if elsewhere]
    left += [f"whether {' and '.join(names)} fit {target}"] if fitted is None else []
    left += [f"the problems of {question.benchmark.name}"] if question.problems is None else []
    return Preview(question, choices, stored, fitted, left)


def chosen(names: Sequence[str], target: str, workspace: Workspace) -> tuple[list[AdapterChoice], list[Adapter | None]]:
    """What the names mean, and the adapters of the store among them, None for one that lies elsewhere.

    Asked before all else: of the target not even its config.json is fetched for an adapter that is not there. Raises
    `NotFound` and `Usage`.
    """
    if not names:
        raise Usage("no adapter is named", "resa-hub eval NAME --target TARGET")
    choices = [choose_adapter(name, target, workspace.registry) for name in names]
    stored = [None if _elsewhere(choice) else chosen_adapter(choice, workspace) for choice in choices]
    _check_one_source([adapter for adapter in stored if adapter])
    return choices, stored


def _elsewhere(choice: AdapterChoice) -> bool:
    return choice.name is not None and isinstance(parse_adapter(choice.name), RemoteRef)


def plan(
    names: Sequence[str], target: str, settings: EvalSettings, workspace: Workspace, force: bool = False
) -> EvaluationPlan:
    """Which arms are run on which problems; nothing is generated. Raises as `preview`, and `Network`."""
    seen = preview(names, target, settings, workspace, force)
    files, here = locate(seen.question.target.base), seen.question.files
    fitted = seen.fitted if here and here.folder == files.folder else None
    if fitted is None:
        fitted = [fitting_adapter(choice, workspace, files, force, zero=True) for choice in seen.choices]
    return complete(seen.question, files, fitted, workspace)


def complete(question: Question, files: Files, fitted: Sequence[FittedAdapter], workspace: Workspace) -> EvaluationPlan:
    """The plan of a question, once target and adapters are here; problems and sources may be fetched."""
    settings, benchmark = question.settings, question.benchmark
    problems = question.problems
    if problems is None:
        problems = benchmark.problems(settings.split, settings.problems, settings.problem_seed)
    settings = replace(settings, problems=len(problems))
    adapters = {each.adapter.manifest.reference: each for each in fitted}
    _check_one_source([each.adapter for each in fitted])
    return EvaluationPlan(
        settings=settings,
        benchmark=benchmark,
        problems=problems,
        target_name=question.target_name,
        target=files,
        adapters=adapters,
        arms=_arms(adapters, settings, workspace, files),
    )


def _check_one_source(adapters: Sequence[Adapter]) -> None:
    sources = {adapter.manifest.source or "unknown" for adapter in adapters}
    if len(sources) > 1:
        raise Usage(
            f"the adapters come from different sources: {', '.join(sorted(sources))}", "evaluate them one at a time"
        )


QUICK_PROBLEMS, QUICK_TOKENS = 100, 4_096


def quick(settings: EvalSettings, target: str, workspace: Workspace, *, benchmark: str | None = None) -> EvalSettings:
    """The same question in minutes, on a model of 1.5B and one GPU: a fixed part of math500, answers of at most 4,096
    tokens, one control an adapter.

    The embedded family is asked tiny-chain. benchmark: another one, of which as many problems are asked as there are,
    at most.
    """
    embedded = choose_adapter(None, target, workspace.registry).target.base.id.startswith(tiny.PREFIX)
    small = replace(settings, samples=2, seeds=1, split=None, problem_seed=0, greedy=False)
    if benchmark:
        small = replace(small, benchmark=benchmark, new_tokens=None if embedded else QUICK_TOKENS)
        return at_most(QUICK_PROBLEMS, target, small, workspace)
    if embedded:
        return replace(small, benchmark="tiny-chain", problems=200, new_tokens=None)
    return replace(small, benchmark="math500", problems=QUICK_PROBLEMS, new_tokens=QUICK_TOKENS)


def _arms(adapters: dict[str, FittedAdapter], settings: EvalSettings, workspace: Workspace, target: Files) -> list[Arm]:
    """Base and source, the adapters with their controls, and what other methods made."""
    kinds = arm_kinds(settings.arms)
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
