"""`eval`: plan arms -> collect their samples -> grade -> verdict -> record."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from ..adapter.fit import Fit
from ..adapter.results import ArmResult, Contrast, Evaluation
from ..adapter.store import Adapter
from ..adapter.workspace import Workspace
from ..core.errors import NotFound, Usage
from ..core.progress import Progress
from ..data import tiny
from ..data.snapshots import Files, locate, text_digest
from ..engine.generation.base import Key, Sample
from ..hub.resolve import choose, fitting
from . import analysis, benchmarks
from . import arms as planning
from .analysis import Analysis, ArmsOfAdapter, Grades
from .arms import BASE, MADE, PROMPT, SOURCE, USUAL, Arm
from .benchmarks.base import Benchmark, GradedCompletion, Problem
from .sampling.collect import CollectedSamples, collect
from .sampling.jobs import Engines, SamplingConfig, sample_set
from .sampling.samples import SampleStore
from .statistics import Difference
from .verdict import Verdict, verdict_fields

POWER = 2.80 / 1.96
"""From the half-width of a 95% interval to the effect that is seen in 80% of runs: z of .975 plus z of .80, over z of
.975.
"""


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
    draw: int = 0
    """Which problems of a generated benchmark: another draw has not been looked at while methods were developed."""
    arms: tuple[str, ...] = USUAL
    """Kinds of arms beside base and the adapters: some of `evaluation.arms.CHOICES`."""
    engines: Engines = field(default_factory=Engines)
    new_tokens: int | None = None
    """Budget of an answer; None: the benchmark's."""
    purpose: str = "judging"
    """Or choosing, which stays with the adapter."""

    def check(self) -> None:
        if self.samples < 1 or self.seeds < 0 or (self.new_tokens is not None and self.new_tokens < 1):
            raise Usage("samples, controls and new tokens are counts", "--samples 4 --controls 3")


@dataclass(frozen=True)
class EvaluationPlan:
    settings: EvalSettings
    benchmark: Benchmark
    problems: list[Problem]
    target_name: str
    target: Files
    adapters: dict[str, tuple[Adapter, Fit]]
    arms: list[Arm]

    @property
    def asked(self) -> SamplingConfig:
        chosen = self.settings
        return SamplingConfig(
            self.benchmark.name,
            self.problems,
            chosen.samples,
            chosen.greedy,
            self.benchmark.temperature,
            self.benchmark.top_p,
            chosen.new_tokens or self.benchmark.new_tokens,
            chosen.seed,
            chosen.engines,
        )


def plan(
    names: Sequence[str], target: str, settings: EvalSettings, workspace: Workspace, force: bool = False
) -> EvaluationPlan:
    """Which arms are run on which problems; raises `NotFound`, `DoesNotFit`, `NoEffect`, `Usage`."""
    settings.check()
    if not names:
        raise Usage("no adapter is named", "resa-hub eval NAME --target TARGET")
    benchmark = benchmarks.load(settings.benchmark, workspace.registry)
    problems = benchmark.problems(settings.split, settings.problems, settings.draw)
    settings = replace(settings, split=settings.split or benchmark.splits[0], problems=len(problems))
    choices = [choose(name, target, workspace.registry) for name in names]
    files = locate(choices[0].target.base)
    adapters = {}
    for choice in choices:
        adapter, fit = fitting(choice, workspace, files, force, zero=True)
        adapters[adapter.manifest.reference] = (adapter, fit)
    kinds, arms = planning.chosen(settings.arms), [Arm(BASE, BASE, files)]
    sources = {adapter.manifest.source for adapter, _ in adapters.values()}
    if len(sources) > 1:
        raise Usage(
            f"the adapters come from different sources: {', '.join(sorted(sources))}", "evaluate them one at a time"
        )
    if SOURCE in kinds:
        arms += planning.source_arms(next(iter(adapters.values()))[0].manifest, files)
    if PROMPT in kinds:
        arms.append(Arm(PROMPT, PROMPT, files, template="r1"))
    for label, (adapter, fit) in adapters.items():
        arms += planning.adapter_arms(
            adapter, label, files, workspace.cache / "controls", settings.seeds, () if fit.zero else kinds
        )
    arms += _peers(adapters, kinds, workspace, files)
    return EvaluationPlan(settings, benchmark, problems, target, files, adapters, arms)


def _peers(
    adapters: dict[str, tuple[Adapter, Fit]], kinds: Sequence[str], workspace: Workspace, target: Files
) -> list[Arm]:
    """What other methods made of the same source and data, where the store has it and nobody named it."""
    stored, found = workspace.store.readable()[0] if set(kinds) & set(MADE) else [], {}
    for adapter, _ in adapters.values():
        for method in MADE:
            peer = planning.peer(adapter, stored, method) if method in kinds else None
            if peer and peer.manifest.reference not in adapters:
                arm = Arm(peer.manifest.reference, method, target, peer.folder, texts=peer.manifest.probe_texts)  # pyright: ignore[reportArgumentType]
                found[arm.name] = arm
    return list(found.values())


def evaluate(
    names: str | Sequence[str],
    *,
    target: str,
    settings: EvalSettings = EvalSettings(),
    workspace: str | Path | Workspace | None = None,
    force: bool = False,
    progress: Progress | None = None,
    record: bool = True,
) -> list[Evaluation]:
    """Judge adapters against base, source and random controls; with `record` the verdicts are kept beside the adapters.

    Samples that exist are not generated again. Raises the errors of `plan`, and `RunFailed` when a control changes
    nothing.
    """
    began, workspace, progress = time.monotonic(), Workspace.find(workspace), progress or Progress()
    made = plan([names] if isinstance(names, str) else names, target, settings, workspace, force)
    with contextlib.closing(SampleStore(workspace.cache, progress.say)) as store:
        collected = collect(made.asked, made.arms, store, progress)
        arms = {arm.name: arm for arm in made.arms if arm.name not in collected.left_out}
        graded = {name: _grades(made, collected.samples[name], settings.samples) for name in arms}
        judged = analysis.cached_analysis(
            _judged(made, arms, collected, {name: table.strict for name, table in graded.items()}), store
        )
    rows = [_row(arm, collected, graded[arm.name], judged) for arm in arms.values()]
    seconds = time.monotonic() - began
    results = [
        _evaluation(
            made, label, rows, _contrasts(arms, judged.contrasts[label]), judged.verdicts[label], collected, seconds
        )
        for label in made.adapters
    ]
    results = [_apart(made, _beside_base(made, result, collected), workspace) for result in results]
    if record:
        from .record import save_evaluation

        for result, (adapter, _) in zip(results, made.adapters.values(), strict=True):
            save_evaluation(adapter, result)
    return results


def quick(settings: EvalSettings, target: str, workspace: Workspace) -> EvalSettings:
    """The same question in minutes, on a model of 1.5B and one GPU: a fixed part of math500, answers of at most 4,096
    tokens, one control an adapter.

    The embedded family is asked tiny-chain.
    """
    small = choose(None, target, workspace.registry).target.base.id.startswith(tiny.PREFIX)
    benchmark, problems, budget = ("tiny-chain", 200, None) if small else ("math500", 100, 4096)
    return replace(
        settings,
        benchmark=benchmark,
        problems=problems,
        samples=2,
        seeds=1,
        split=None,
        draw=0,
        greedy=False,
        new_tokens=budget,
    )


def _beside_base(made: EvaluationPlan, result: Evaluation, collected: CollectedSamples) -> Evaluation:
    """Of an adapter that changes no logit of the probe texts: how many of its answers are base's, letter for letter;
    and why a zero one has no controls.
    """
    if result.adapter not in collected.identical:
        return result
    said = []
    if made.adapters[result.adapter][1].zero:
        said.append(
            f"every B (or A) of {result.adapter} is zero, by its file: controls of its norm would be zero too, "
            "so none is run"
        )
    for kind, table in (("samples", collected.samples), ("greedy answers", collected.greedy)):
        ours, bases = table.get(result.adapter, {}), table.get(BASE, {})
        if ours:
            same = sum(ours[key] == bases[key] for key in ours)
            said.append(f"{same:,} of {len(ours):,} {kind} of {result.adapter} are those of base, letter for letter")
    return msgspec.structs.replace(result, notes=[*result.notes, *said])


def _apart(made: EvaluationPlan, result: Evaluation, workspace: Workspace) -> Evaluation:
    """With what is known of choosing on these problems, and of the problems in the adapter's data."""
    from . import contamination

    adapter, split = made.adapters[result.adapter][0], made.settings.split or ""
    note, same = contamination.tuned_on(adapter, made.benchmark.name, split, made.benchmark.splits, made.settings.draw)
    shared = contamination.overlaps(adapter, made.problems, workspace.registry)
    purpose = contamination.CHOOSING if same else made.settings.purpose  # once chosen on, these problems stay marked
    return msgspec.structs.replace(
        result,
        purpose=purpose,
        overlaps=shared,
        notes=[*result.notes, *([note] if note else []), *(o.sentence for o in shared)],
    )


def kept_samples(made: EvaluationPlan, arm: Arm, workspace: Workspace) -> list[list[Sample]]:
    """[problems][samples] of an arm at the benchmark's temperature, as the store has them; nothing is generated. Raises
    `NotFound` where one is missing.
    """
    asked = made.asked._replace(engines=made.settings.engines.settled(made.target))
    with contextlib.closing(SampleStore(workspace.cache)) as store:
        if arm.folder and not arm.folder.exists():
            found = {}
        else:
            found = store.read(sample_set(asked, arm, asked.temperature), made.problems, made.settings.samples)
    if len(found) < len(made.problems) * made.settings.samples:
        raise NotFound(
            f"samples of {arm.name} are missing from this workspace", "run the evaluation again: it keeps them"
        )
    return [[found[problem.id, number] for number in range(made.settings.samples)] for problem in made.problems]


def answers(
    names: Sequence[str], target: str, settings: EvalSettings, workspace: Workspace, roles: Sequence[str] = ("adapter",)
) -> dict[str, list[list[int]]]:
    """arm -> [problems][samples] of 0 and 1 at the benchmark's temperature: what `evaluate` has judged, read from the
    samples it kept.
    """
    made = plan(names, target, settings, workspace, force=True)
    arms = [arm for arm in made.arms if arm.role in roles]
    kept = {arm.name: kept_samples(made, arm, workspace) for arm in arms}
    return {
        name: _grades(
            made,
            {(p.id, n): s for p, row in zip(made.problems, rows, strict=True) for n, s in enumerate(row)},
            settings.samples,
        ).strict
        for name, rows in kept.items()
    }


def _judged(
    made: EvaluationPlan, arms: dict[str, Arm], collected: CollectedSamples, scores: dict[str, list[list[int]]]
) -> Grades:
    """Which arm is held against which; beside each adapter are shown its source, its negative, the prompt alone and
    other methods.
    """
    adapters = {}
    for label in made.adapters:
        controls = {
            arm.name.removeprefix(label + " "): arm.name
            for arm in arms.values()
            if arm.of == label and arm.role == "random"
        }
        shown = [
            arm.name for arm in arms.values() if arm.role not in ("base", "adapter", "random") and arm.of in ("", label)
        ]
        adapters[label] = ArmsOfAdapter(controls, shown, label in collected.identical)
    greedy = {name: _grades(made, collected.greedy[name], 1).strict for name in arms if collected.greedy.get(name)}
    return Grades(BASE, SOURCE if SOURCE in scores else None, scores, greedy, adapters)


def _contrasts(arms: dict[str, Arm], found: dict[str, Difference]) -> list[Contrast]:
    return [Contrast(name, arms[name].role, 100 * d.value, 100 * d.low, 100 * d.high, d.p) for name, d in found.items()]


class _Graded(NamedTuple):
    """[problems][samples] of 0 and 1, by either reading."""

    strict: list[list[int]]
    lenient: list[list[int]]


def _grades(made: EvaluationPlan, samples: dict[Key, Sample], count: int) -> _Graded:
    asked = [(problem, samples[problem.id, number]) for problem in made.problems for number in range(count)]
    grades = made.benchmark.grades(
        [GradedCompletion(problem, sample.text, sample.finished) for problem, sample in asked]
    )
    rows = [grades[start : start + count] for start in range(0, len(grades), count)]
    return _Graded(
        [[int(grade.strict) for grade in row] for row in rows], [[int(grade.lenient) for grade in row] for row in rows]
    )


def _row(arm: Arm, collected: CollectedSamples, graded: _Graded, judged: Analysis) -> ArmResult:
    score, single, samples = judged.averages[arm.name], judged.greedy.get(arm.name), collected.samples[arm.name]
    count = len(samples)
    return ArmResult(
        name=arm.name,
        role=arm.role,
        score=100 * score.value,
        score_ci=(100 * score.low, 100 * score.high),
        lenient=100 * sum(map(sum, graded.lenient)) / count,
        greedy=100 * single.value if single else None,
        greedy_ci=(100 * single.low, 100 * single.high) if single else None,
        tokens=sum(s.tokens for s in samples.values()) / count,
        unfinished=100 * sum(not s.finished for s in samples.values()) / count,
        prompts=collected.prompts[arm.name],
        samples=collected.sets[arm.name],
    )


def _evaluation(
    made: EvaluationPlan,
    label: str,
    rows: list[ArmResult],
    contrasts: list[Contrast],
    verdict: Verdict,
    collected: CollectedSamples,
    seconds: float,
) -> Evaluation:
    adapter, fit = made.adapters[label]
    others = {arm.name for arm in made.arms if arm.of not in ("", label)} | (made.adapters.keys() - {label})
    asked = made.asked
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
        **verdict_fields(verdict),
        arms=[row for row in rows if row.name not in others],
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(seconds, 1),
        draw=made.settings.draw,
        top_p=asked.top_p,
        new_tokens=asked.new_tokens,
        engine=collected.engine,
        fingerprint=text_digest([part for problem in made.problems for part in problem]),
        detectable=100 * POWER * (verdict.gain.high - verdict.gain.low) / 2,
        contrasts=contrasts,
        notes=collected.notes,
    )
