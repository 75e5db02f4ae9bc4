"""Evaluations as text and as JSON."""

from typing import TYPE_CHECKING, Any

import msgspec

from ..output import Output

if TYPE_CHECKING:
    from ...adapter.results import Evaluation


def document(result: "Evaluation") -> dict[str, Any]:
    return msgspec.to_builtins(result)


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
    if result.detectable:
        out.text(f"a run of this size shows a difference of {result.detectable:.1f} points from base in 80% of cases")
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


def _row(arm: Any) -> list[str]:
    low, high = arm.score_ci
    greedy = f"{arm.greedy:.1f}" if arm.greedy is not None else "-"
    return [
        arm.name,
        f"{arm.score:.1f}",
        f"[{low:.1f}, {high:.1f}]",
        f"{arm.lenient:.1f}",
        greedy,
        f"{arm.tokens:.1f}",
        f"{arm.unfinished:.1f}",
    ]
