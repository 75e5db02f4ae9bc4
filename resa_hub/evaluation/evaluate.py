"""`eval`: plan the arms, collect their samples, grade them, analyse the grades, write a document for each adapter."""

import contextlib
import time
from collections.abc import Mapping, Sequence

from ..adapter.results import Evaluation
from ..adapter.workspace import Workspace, WorkspaceLike
from ..core.errors import NotFound
from ..core.progress import Progress
from ..engine.generation.base import Key, Sample
from . import plan as planning
from .analysis import ArmsOfAdapter, Grades, Table, cached_analysis
from .arms import ADAPTER, BASE, RANDOM, SOURCE, Arm
from .benchmarks import asked_files
from .benchmarks.base import GradedCompletion, Problem
from .plan import EvalSettings, EvaluationPlan
from .result_document import EvaluationRun, GradedArm, evaluation_documents
from .sampling.collect import CollectedSamples, collect
from .sampling.jobs import sample_set
from .sampling.samples import SampleStore


def evaluate(
    names: str | Sequence[str],
    *,
    target: str,
    settings: EvalSettings = EvalSettings(),
    workspace: WorkspaceLike = None,
    force: bool = False,
    progress: Progress | None = None,
    record: bool = True,
) -> list[Evaluation]:
    """Judge adapters against base, source and random controls; with `record` the verdicts are kept beside the adapters.

    Samples that exist are not generated again. Raises the errors of `plan`, and `RunFailed` when a control changes
    nothing.
    """
    began, workspace, progress = time.monotonic(), Workspace.find(workspace), progress or Progress()
    plan = planning.plan([names] if isinstance(names, str) else names, target, settings, workspace, force)
    for reference, (_, fit) in plan.adapters.items():
        if fit.level == "distant":
            progress.say(f"warning: {reference} is distant from {target}: {fit.reason}")
    with contextlib.closing(SampleStore(workspace.cache, progress.say)) as store, progress.speaking():
        collected = collect(plan.sampling, plan.arms, store, progress)
        arms = {arm.name: arm for arm in plan.arms if arm.name not in collected.left_out}
        graded = {name: _graded(plan, collected.samples[name], plan.settings.samples) for name in arms}
        analysis = cached_analysis(_grades(plan, arms, collected, graded), store)
        asked_files.remember(plan.benchmark, store)
    run = EvaluationRun(plan, collected, arms, graded, analysis, seconds=time.monotonic() - began)
    documents = evaluation_documents(run, workspace.registry)
    if record:
        from .save import save_evaluation

        for document, fitted in zip(documents, plan.adapters.values(), strict=True):
            save_evaluation(fitted.adapter, document)
    return documents


def stored_scores(
    names: Sequence[str], target: str, settings: EvalSettings, workspace: Workspace, roles: Sequence[str] = (ADAPTER,)
) -> dict[str, Table]:
    """Arm -> [problems][samples] of 0 and 1 at the benchmark's temperature: what `evaluate` has judged, graded again
    from the samples in the store. Raises `NotFound` where one is missing.
    """
    plan = planning.plan(names, target, settings, workspace, force=True)
    with contextlib.closing(SampleStore(workspace.cache)) as store:
        samples = {arm.name: _stored_samples(plan, arm, store) for arm in plan.arms if arm.role in roles}
    return {name: _graded(plan, found, plan.settings.samples).strict for name, found in samples.items()}


def _stored_samples(plan: EvaluationPlan, arm: Arm, store: SampleStore) -> Mapping[Key, Sample]:
    sampling = plan.sampling._replace(engines=plan.settings.engines.settled(plan.target))
    samples: Mapping[Key, Sample] = {}
    if arm.folder is None or arm.folder.exists():  # a control that was never made has no identity
        samples = store.read(sample_set(sampling, arm, sampling.temperature), plan.problems, sampling.samples)
    if len(samples) < len(plan.problems) * sampling.samples:
        raise NotFound(
            f"samples of {arm.name} are missing from this workspace", "run the evaluation again: it keeps them"
        )
    return samples


def _graded(plan: EvaluationPlan, samples: Mapping[Key, Sample], count: int) -> GradedArm:
    """Grades [n problems, count samples] of one arm."""

    def completion(problem: Problem, number: int) -> GradedCompletion:
        sample = samples[problem.id, number]
        return GradedCompletion(problem, sample.text, sample.finished)

    grades = plan.benchmark.grades([completion(problem, i) for problem in plan.problems for i in range(count)])
    rows = [grades[start : start + count] for start in range(0, len(grades), count)]
    return GradedArm(
        strict=[[int(grade.strict) for grade in row] for row in rows],
        lenient=[[int(grade.lenient) for grade in row] for row in rows],
    )


def _grades(
    plan: EvaluationPlan, arms: Mapping[str, Arm], collected: CollectedSamples, graded: Mapping[str, GradedArm]
) -> Grades:
    """What is analysed: the strict grades of all arms, and which arm each adapter is held against."""
    greedy = {name: _graded(plan, collected.greedy[name], 1).strict for name in arms if collected.greedy.get(name)}
    return Grades(
        base=BASE,
        source=SOURCE if SOURCE in arms else None,
        scores={name: arm.strict for name, arm in graded.items()},
        greedy=greedy,
        adapters={label: _opponents(label, arms, label in collected.identical) for label in plan.adapters},
    )


def _opponents(label: str, arms: Mapping[str, Arm], identical: bool) -> ArmsOfAdapter:
    """Random adapters are controls of the rule; source, negative, prompt-only and other methods are only shown."""
    controls, shown = {}, []
    for name, arm in arms.items():
        if arm.role == RANDOM and arm.control_of == label:
            controls[name.removeprefix(f"{label} ")] = name
        elif arm.role not in (BASE, ADAPTER, RANDOM) and arm.control_of in ("", label):
            shown.append(name)
    return ArmsOfAdapter(controls, shown, identical)
