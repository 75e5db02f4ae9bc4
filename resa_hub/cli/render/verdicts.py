"""Evaluations as text and as JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ..output import Output
from ..tables import Column
from . import estimated
from .words import VERDICTS

if TYPE_CHECKING:
    from ...adapter.results import ArmResult, Evaluation
    from ...evaluation.forecast import Forecast

GREEDY = Column("greedy, %", right=True, hide=4)
COLUMNS = (
    Column("arm", least=20),
    Column("score, %", right=True),
    Column("95%", right=True),
    Column("lenient, %", right=True, hide=2),
    GREEDY,
    Column("tokens", right=True, hide=3),
    Column("cut, %", right=True, hide=1),
)
"""Of the arms."""


ARMS = (
    Column("arm", least=20),
    Column("role", hide=1),
    Column("model", least=20, hide=2),
    Column("answers", right=True),
    Column("to generate", right=True),
)
"""Of a plan."""


def planned(out: Output, told: "Forecast", page: Path | None) -> None:
    """The arms of a run that was not started, how many answers each gives and lacks, and what that takes."""
    question = told.preview.question
    rows = [[arm.name, arm.role, arm.model, f"{arm.completions:,}", f"{arm.missing:,}"] for arm in told.arms]
    document = {
        "arms": [arm.name for arm in told.arms],
        "completions_per_arm": max(arm.completions for arm in told.arms),
        "missing": {arm.name: arm.missing for arm in told.arms},
        "problems": question.count,
        "page": str(page) if page else None,
    } | estimated.document(told.estimate, told.preview.left)
    if out.data(document, str(len(rows))):
        return
    problems = "an unknown number of" if question.count is None else f"{question.count:,}"
    asked = f"{problems} problems x {question.settings.samples} samples"
    greedy = " and a greedy answer" if question.settings.greedy else ""
    out.text(f"{question.benchmark.name} ({question.settings.split}) on {question.target_name}: {asked}{greedy}")
    for each in told.preview.fitted or ():
        out.text(f"{each.adapter.manifest.reference} fits: {each.fit.level}, {each.fit.reason}")
    out.table(ARMS, rows)
    kept = sum(arm.completions for arm in told.arms) - told.missing
    out.text(f"to generate: {told.missing:,} answers; {kept:,} are there already")
    if page:
        out.text(f"report: would be written to {page}")
    out.text("")
    estimated.show(out, told.estimate, told.preview.left)
    out.hint("dry run: nothing was fetched or generated")


def show_all(out: Output, results: Sequence["Evaluation"]) -> bool:
    """Every evaluation, or one document of all; False when nothing is left to say to a person."""
    documents = [msgspec.to_builtins(result) for result in results]
    together = documents[0] if len(documents) == 1 else {"evaluations": documents}
    if out.data(together, "\n".join(result.verdict for result in results)):
        return False
    for result in results:
        show(out, result)
    return True


def show(out: Output, result: "Evaluation") -> None:
    from ...adapter.results import warnings_and_remarks

    out.text(
        f"\n{result.adapter} on {result.target} ({result.fit}), {result.benchmark}: {result.problems} problems "
        f"x {result.samples} samples at T={result.temperature:g}"
    )
    has_greedy = any(arm.greedy is not None for arm in result.arms)
    arms = [[short_arm(arm.name, result.adapter), *_scores(arm, has_greedy)] for arm in result.arms]
    out.table([column for column in COLUMNS if has_greedy or column != GREEDY], arms)
    out.text(f"verdict: {result.verdict.upper()}", VERDICTS)
    out.text(result.sentence)
    effect = result.minimum_detectable_effect
    if effect and effect > 100:
        out.text("a run of this size shows no difference, however large: it has too few problems")
    elif effect:
        out.text(f"a run of this size shows a difference of {effect:.1f} points from base in 80% of cases")
    for contrast in result.contrasts:
        difference = f"{contrast.value:+.1f} points [{contrast.low:+.1f}, {contrast.high:+.1f}]"
        out.text(f"against {short_arm(contrast.against, result.adapter)}: {difference}")
    warnings, remarks = warnings_and_remarks(result.notes)
    for note in warnings:
        out.text(f"note: {note}")
    for remark in remarks:
        out.text(f"checked: {remark}")
    if result.base_over_source is not None and result.adapter_over_source is not None:
        out.text(
            f"score ratios: base/source {result.base_over_source:.0%}, adapter/source {result.adapter_over_source:.0%}"
        )


def short_arm(name: str, adapter: str) -> str:
    """`random-1` for `adapter@0.1.0 random-1`, in a table whose heading names the adapter."""
    return "adapter" if name == adapter else name.removeprefix(f"{adapter} ")


def _scores(arm: "ArmResult", has_greedy: bool) -> list[str]:
    low, high = arm.score_ci
    greedy = "-" if arm.greedy is None else f"{arm.greedy:.1f}"
    return [
        f"{arm.score:.1f}",
        f"[{low:.1f}, {high:.1f}]",
        f"{arm.lenient:.1f}",
        *([greedy] if has_greedy else []),
        f"{arm.tokens:.1f}",
        f"{arm.truncated:.1f}",
    ]
