"""`eval`: plan arms -> sample what is missing -> grade -> verdict -> record."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from . import benchmarks
from .adapter.compat import Fit
from .adapter.store import Adapter
from .attach import choose, fitting
from .benchmarks.base import Benchmark, Completion, Problem
from .errors import RunFailed, Usage
from .evaluation import arms as planning
from .evaluation.arms import BASE, SOURCE, Arm
from .evaluation.samples import Key, Sample, SampleFile
from .evaluation.statistics import average
from .evaluation.verdict import AdapterArm, Verdict, judge_all
from .progress import Progress
from .sources import Files, locate
from .workspace import Workspace


class ArmResult(msgspec.Struct, frozen=True):
    """One row of the table; scores in percent."""

    name: str
    role: str
    score: float
    score_ci: tuple[float, float]
    lenient: float
    greedy: float | None
    greedy_ci: tuple[float, float] | None
    tokens: float
    """Mean length of a completion."""
    unfinished: float
    """Share of completions cut by the budget, percent."""


class Evaluation(msgspec.Struct, frozen=True):
    """The judgement of one adapter on one target and benchmark. Scores in percent, gains in points, retained as a ratio."""

    adapter: str
    content_hash: str
    target: str
    target_revision: str
    fit: str
    benchmark: str
    split: str
    problems: int
    samples: int
    temperature: float
    seed: int
    verdict: str
    sentence: str
    gain: float
    gain_ci: tuple[float, float]
    gain_ci_same_problems: tuple[float, float] | None
    p: float
    retained: float | None
    retained_ci: tuple[float, float] | None
    source_gain: float | None
    source_gain_ci: tuple[float, float] | None
    base_over_source: float | None
    adapter_over_source: float | None
    margin: float
    comparisons: list[dict[str, Any]]
    arms: list[ArmResult]
    created: str
    seconds: float
    draw: int = 0


@dataclass(frozen=True)
class Settings:
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
    draw: int = 0
    """Which problems of a generated benchmark: another draw has not been looked at while methods were developed."""

    def check(self) -> None:
        if self.samples < 1 or self.seeds < 0:
            raise Usage("samples and controls are counts", "--samples 4 --controls 3")


@dataclass(frozen=True)
class Plan:
    settings: Settings
    benchmark: Benchmark
    problems: list[Problem]
    target_name: str
    target: Files
    template: str | None
    """None is the model's own chat template, which the paper's evaluation uses; the R1 text belongs to the data of an extraction."""
    adapters: dict[str, tuple[Adapter, Fit]]
    arms: list[Arm]


def plan(names: Sequence[str], target: str, settings: Settings, home: Workspace, force: bool = False) -> Plan:
    """Which arms are run on which problems; raises `NotFound`, `DoesNotFit`, `NoEffect`, `Usage`."""
    settings.check()
    if not names:
        raise Usage("no adapter is named", "resa-hub eval NAME --target TARGET")
    benchmark = benchmarks.load(settings.benchmark, home.registry)
    problems = benchmark.problems(settings.split, settings.problems, settings.draw)
    settings = replace(settings, split=settings.split or benchmark.splits[0], problems=len(problems))
    choices = [choose(name, target, home.registry) for name in names]
    files = locate(choices[0].target.base)
    adapters = {}
    for choice in choices:
        adapter, fit = fitting(choice, home, files, force)
        adapters[adapter.manifest.reference] = (adapter, fit)
    arms = [Arm(BASE, BASE, files)]
    sources = {adapter.manifest.source for adapter, _ in adapters.values()}
    if len(sources) > 1:
        raise Usage(f"the adapters come from different sources: {', '.join(sorted(sources))}", "evaluate them one at a time")
    arms += planning.source_arms(next(iter(adapters.values()))[0].manifest, files)
    for label, (adapter, _) in adapters.items():
        arms += planning.adapter_arms(adapter, label, files, home.cache / "controls", settings.seeds)
    return Plan(settings, benchmark, problems, target, files, None, adapters, arms)


def evaluate(
    names: str | Sequence[str],
    *,
    target: str,
    settings: Settings = Settings(),
    workspace: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
    record: bool = True,
) -> list[Evaluation]:
    """Judge adapters against base, source and random controls; with `record` the verdicts are kept beside the adapters.

    Samples that exist are not generated again. Raises the errors of `plan`, and `RunFailed` when a control changes nothing.
    """
    began, home, progress = time.monotonic(), Workspace.find(workspace), progress or Progress()
    made = plan([names] if isinstance(names, str) else names, target, settings, home, force)
    identical = _self_check(made)
    scores: dict[str, list[list[int]]] = {}
    rows = []
    for arm in made.arms:
        sampled = _sample(made, arm, home, progress, made.benchmark.temperature, settings.samples)
        greedy = _sample(made, arm, home, progress, 0.0, 1) if settings.greedy else None
        scores[arm.name] = _grades(made, sampled, settings.samples)
        rows.append(_row(made, arm, sampled, scores[arm.name], greedy))
    tests = {
        label: AdapterArm(
            scores[label], {arm.name.removeprefix(label + " "): scores[arm.name] for arm in made.arms if arm.of == label}, identical=label in identical
        )
        for label in made.adapters
    }
    verdicts = judge_all(scores[BASE], scores.get(SOURCE), tests)
    seconds = time.monotonic() - began
    results = [_evaluation(made, label, verdicts[label], rows, seconds) for label in made.adapters]
    if record:
        from .record import keep

        for result, (adapter, _) in zip(results, made.adapters.values(), strict=True):
            keep(adapter, result)
    return results


def answers(names: Sequence[str], target: str, settings: Settings, home: Workspace) -> dict[str, list[list[int]]]:
    """adapter -> [problems][samples] of 0 and 1 at the benchmark's temperature: what `evaluate` has judged, read from the samples it kept."""
    made = plan(names, target, settings, home, force=True)
    quiet = Progress(quiet=True)
    arms = [arm for arm in made.arms if arm.role == "adapter"]
    return {arm.name: _grades(made, _sample(made, arm, home, quiet, made.benchmark.temperature, settings.samples), settings.samples) for arm in arms}


def _self_check(made: Plan) -> set[str]:
    """Adapters that change no logit; a control that changes none stops the run."""
    from .engine.arms import effect, random_like

    for arm in made.arms:
        if arm.role == "random" and arm.folder:
            random_like(made.adapters[arm.of][0].folder, int(arm.name.rpartition("-")[2]), arm.folder)
    identical = set()
    for arm in made.arms:
        if arm.folder and effect(arm.base, arm.folder, arm.texts).identical:
            if arm.role != "adapter":
                raise RunFailed(f"the arm {arm.name!r} changes no logit, so it controls nothing", "run again with another number of --controls")
            identical.add(arm.name)
    return identical


def _sample(made: Plan, arm: Arm, home: Workspace, progress: Progress, temperature: float, count: int) -> dict[Key, Sample]:
    """The arm's samples, those that are missing generated now."""
    settings = {"temperature": temperature, "new_tokens": made.benchmark.new_tokens, "seed": made.settings.seed, "template": made.template}
    file = SampleFile(home.cache / "samples", arm.identity, made.benchmark.name, settings)
    present = file.read()
    jobs = [((p.id, number), p.question) for p in made.problems for number in range(count) if (p.id, number) not in present]
    if jobs:
        from .engine.arms import sample

        label = f"{arm.name}, {'greedy' if temperature == 0 else f'T={temperature:g}'}"
        sample(
            arm.base, arm.folder, made.template, jobs, temperature=temperature, new_tokens=made.benchmark.new_tokens, seed=made.settings.seed,
            sink=file.append, progress=progress, label=label,
        )  # fmt: skip
        present = file.read()
    return {(p.id, number): present[p.id, number] for p in made.problems for number in range(count)}


def _grades(made: Plan, samples: dict[Key, Sample], count: int, lenient: bool = False) -> list[list[int]]:
    """[problems][samples] of 0 and 1."""
    asked = [(problem, samples[problem.id, number]) for problem in made.problems for number in range(count)]
    grades = made.benchmark.grades([Completion(problem, sample.text, sample.finished) for problem, sample in asked])
    flat = [int(grade.lenient if lenient else grade.strict) for grade in grades]
    return [flat[start : start + count] for start in range(0, len(flat), count)]


def _row(made: Plan, arm: Arm, samples: dict[Key, Sample], scores: list[list[int]], greedy: dict[Key, Sample] | None) -> ArmResult:
    score = average(scores)
    lenient = _grades(made, samples, made.settings.samples, lenient=True)
    single = average(_grades(made, greedy, 1)) if greedy else None
    count = len(samples)
    return ArmResult(
        name=arm.name,
        role=arm.role,
        score=100 * score.value,
        score_ci=(100 * score.low, 100 * score.high),
        lenient=100 * sum(map(sum, lenient)) / count,
        greedy=100 * single.value if single else None,
        greedy_ci=(100 * single.low, 100 * single.high) if single else None,
        tokens=sum(s.tokens for s in samples.values()) / count,
        unfinished=100 * sum(not s.finished for s in samples.values()) / count,
    )


def _evaluation(made: Plan, label: str, verdict: Verdict, rows: list[ArmResult], seconds: float) -> Evaluation:
    adapter, fit = made.adapters[label]
    gain, source, kept = verdict.gain, verdict.source_gain, verdict.retained
    others = {f"{name} random-{seed}" for name in made.adapters if name != label for seed in range(1, made.settings.seeds + 1)} | (
        made.adapters.keys() - {label}
    )
    return Evaluation(
        adapter=label,
        content_hash=adapter.manifest.content_hash,
        target=made.target_name,
        target_revision=made.target.revision,
        fit=fit.level,
        benchmark=made.benchmark.name,
        split=made.settings.split or "",
        problems=len(made.problems),
        samples=made.settings.samples,
        temperature=made.benchmark.temperature,
        seed=made.settings.seed,
        verdict=verdict.word,
        sentence=verdict.sentence,
        gain=100 * gain.value,
        gain_ci=(100 * gain.low, 100 * gain.high),
        gain_ci_same_problems=None if gain.low_same is None or gain.high_same is None else (100 * gain.low_same, 100 * gain.high_same),
        p=gain.p,
        retained=kept.value if kept else None,
        retained_ci=(kept.low, kept.high) if kept and kept.low is not None and kept.high is not None else None,
        source_gain=100 * source.value if source else None,
        source_gain_ci=(100 * source.low, 100 * source.high) if source else None,
        base_over_source=verdict.base_over_source,
        adapter_over_source=verdict.adapter_over_source,
        margin=100 * verdict.margin,
        comparisons=[msgspec.to_builtins(comparison) for comparison in verdict.comparisons],
        arms=[row for row in rows if row.name not in others],
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(seconds, 1),
        draw=made.settings.draw,
    )
