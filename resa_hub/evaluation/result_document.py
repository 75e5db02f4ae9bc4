"""The documents of an evaluation, one an adapter, from its plan, its samples and its numbers."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ..adapter.describe import sae_faults
from ..adapter.results import MODEL_SELECTION, ArmResult, Contrast, Evaluation
from ..config.registry import Registry
from ..data.snapshots import text_digest
from . import contamination
from .analysis import Analysis, Table
from .arms import BASE, Arm
from .plan import EvaluationPlan
from .sampling.collect import CollectedSamples
from .verdict import verdict_fields

MDE_PER_HALF_WIDTH = 2.80 / 1.96
"""From the half-width of a 95% interval to the effect that is seen in 80% of runs: z of .975 plus z of .80, over z of
.975.
"""


class GradedArm(NamedTuple):
    """Grades of the samples of one arm, by either reading of an answer."""

    strict: Table
    lenient: Table


class EvaluationRun(NamedTuple):
    """All that is known when the samples are analysed."""

    plan: EvaluationPlan
    collected: CollectedSamples
    arms: dict[str, Arm]
    """By name, without those that could not be sampled."""
    grades: dict[str, GradedArm]
    analysis: Analysis
    seconds: float


def evaluation_documents(run: EvaluationRun, registry: Registry) -> list[Evaluation]:
    """One document for each adapter, in the order of the plan; the data of the adapters are read to find overlaps."""
    results = [_arm_result(run, arm) for arm in run.arms.values()]
    shared = _shared_fields(run)
    return [_document(run, label, results, shared, registry) for label in run.plan.adapters]


def _document(
    run: EvaluationRun, label: str, results: Sequence[ArmResult], shared: dict[str, Any], registry: Registry
) -> Evaluation:
    plan, verdict = run.plan, run.analysis.verdicts[label]
    adapter, fit = plan.adapters[label]
    settings, splits = plan.settings, plan.benchmark.splits
    selection = contamination.prior_selection(
        adapter, plan.benchmark.name, settings.split or "", splits, settings.problem_seed
    )
    overlaps = contamination.data_overlaps(adapter, plan.problems, registry)
    notes = [*run.collected.notes, *_notes_of_identity(run, label)]
    notes += sae_faults(adapter.manifest)
    notes += [selection.sentence] if selection else []
    notes += [overlap.sentence for overlap in overlaps]
    # Problems that an adapter was selected on stay marked in later evaluations.
    marked = selection is not None and selection.same_split
    return Evaluation(
        **shared,
        **verdict_fields(verdict),
        adapter=label,
        content_hash=adapter.manifest.content_hash,
        fit=fit.level,
        purpose=MODEL_SELECTION if marked else settings.purpose,
        minimum_detectable_effect=100 * MDE_PER_HALF_WIDTH * (verdict.gain.high - verdict.gain.low) / 2,
        arms=[result for result in results if _concerns(plan, run.arms[result.name], label)],
        contrasts=_contrasts(run, label),
        overlaps=overlaps,
        notes=notes,
    )


def _shared_fields(run: EvaluationRun) -> dict[str, Any]:
    """What all documents of a run have in common."""
    plan, sampling = run.plan, run.plan.sampling
    return {
        "target": plan.target_name,
        "target_revision": plan.target.revision,
        "benchmark": plan.benchmark.name,
        "split": plan.settings.split or "",
        "problem_seed": plan.settings.problem_seed,
        "problems": len(plan.problems),
        "fingerprint": text_digest([part for problem in plan.problems for part in problem]),
        "samples": sampling.samples,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "new_tokens": sampling.new_tokens,
        "seed": sampling.seed,
        "engine": run.collected.engine,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(run.seconds, 1),
    }


def _concerns(plan: EvaluationPlan, arm: Arm, label: str) -> bool:
    """Whether an arm belongs into the document of an adapter: not another adapter, nor a control of another."""
    return arm.name == label or (arm.name not in plan.adapters and arm.control_of in ("", label))


def _notes_of_identity(run: EvaluationRun, label: str) -> list[str]:
    """Of an adapter that changes no logit of the probe texts: how many of its answers are base's, letter for letter;
    and why a zero one has no controls.
    """
    if label not in run.collected.identical:
        return []
    notes = []
    if run.plan.adapters[label].fit.zero:
        notes.append(
            f"every B (or A) of {label} is zero, by its file: controls of its norm would be zero too, so none is run"
        )
    for kind, samples in (("samples", run.collected.samples), ("greedy answers", run.collected.greedy)):
        answers, base_answers = samples.get(label, {}), samples.get(BASE, {})
        if answers:
            same = sum(answers[key] == base_answers[key] for key in answers)
            notes.append(f"{same:,} of {len(answers):,} {kind} of {label} are those of base, letter for letter")
    return notes


def _contrasts(run: EvaluationRun, label: str) -> list[Contrast]:
    return [
        Contrast(
            against=name,
            role=run.arms[name].role,
            value=100 * difference.value,
            low=100 * difference.low,
            high=100 * difference.high,
            p=difference.p,
        )
        for name, difference in run.analysis.contrasts[label].items()
    ]


def _arm_result(run: EvaluationRun, arm: Arm) -> ArmResult:
    score, greedy = run.analysis.averages[arm.name], run.analysis.greedy.get(arm.name)
    samples = run.collected.samples[arm.name]
    count = len(samples)
    return ArmResult(
        name=arm.name,
        role=arm.role,
        score=100 * score.value,
        score_ci=(100 * score.low, 100 * score.high),
        lenient=100 * sum(map(sum, run.grades[arm.name].lenient)) / count,
        greedy=100 * greedy.value if greedy else None,
        greedy_ci=(100 * greedy.low, 100 * greedy.high) if greedy else None,
        tokens=sum(sample.tokens for sample in samples.values()) / count,
        truncated=100 * sum(not sample.finished for sample in samples.values()) / count,
        prompts=run.collected.prompts[arm.name],
        samples=run.collected.sets[arm.name],
    )
