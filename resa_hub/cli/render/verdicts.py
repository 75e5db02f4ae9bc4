"""Evaluations as text and as JSON."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ..output import Output

if TYPE_CHECKING:
    from ...adapter.results import ArmResult, Evaluation


def planned(out: Output, plan: Any) -> None:
    """The arms of a run that was not started, and how many answers each would give."""
    completions = len(plan.problems) * (plan.settings.samples + plan.settings.greedy)
    rows = [[arm.name, arm.role, arm.base.id, str(completions)] for arm in plan.arms]
    if not out.data({"arms": [arm.name for arm in plan.arms], "completions_per_arm": completions}, str(len(rows))):
        out.table(["arm", "role", "model", "completions"], rows)


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
    out.text(
        f"\n{result.adapter} on {result.target} ({result.fit}), {result.benchmark}: {result.problems} problems "
        f"x {result.samples} samples"
    )
    out.table(
        ["arm", f"T={result.temperature:g} %", "95%", "lenient %", "greedy %", "tokens", "cut %"],
        [_row(arm) for arm in result.arms],
    )
    out.text(f"verdict: {result.verdict.upper()}\n{result.sentence}")
    effect = result.minimum_detectable_effect
    if effect:
        out.text(f"a run of this size shows a difference of {effect:.1f} points from base in 80% of cases")
    for contrast in result.contrasts:
        out.text(
            f"against {contrast.against}: {contrast.value:+.1f} points [{contrast.low:+.1f}, {contrast.high:+.1f}]"
        )
    for note in result.notes:
        out.text(f"note: {note}")
    if result.base_over_source is not None and result.adapter_over_source is not None:
        out.text(
            f"score ratios: base/source {result.base_over_source:.0%}, adapter/source {result.adapter_over_source:.0%}"
        )


def _row(arm: "ArmResult") -> list[str]:
    low, high = arm.score_ci
    greedy = f"{arm.greedy:.1f}" if arm.greedy is not None else "-"
    return [
        arm.name,
        f"{arm.score:.1f}",
        f"[{low:.1f}, {high:.1f}]",
        f"{arm.lenient:.1f}",
        greedy,
        f"{arm.tokens:.1f}",
        f"{arm.truncated:.1f}",
    ]
