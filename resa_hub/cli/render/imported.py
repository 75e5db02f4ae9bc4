"""The verdict on logs of other tools as text and as JSON."""

from collections.abc import Sequence
from typing import Any

from ..output import Output
from ..tables import Column
from .words import VERDICTS


def show(out: Output, files: Sequence[str], metric: str | None) -> None:
    import msgspec

    from ...evaluation.harness.imported import judge_logs

    found = judge_logs(files, metric)
    if out.data(msgspec.to_builtins(found), found.verdict.word):
        return
    text(out, found)


def text(out: Output, found: Any) -> None:
    """found: `evaluation.harness.imported.Imported`."""
    out.text(f"{found.problems} problems x {found.samples} samples")
    rows = [
        [a.name, a.tool, a.metric, f"{a.score:.1f}", f"[{a.score_ci[0]:.1f}, {a.score_ci[1]:.1f}]"] for a in found.arms
    ]
    scores = [Column("score, %", right=True), Column("95%", right=True)]
    out.table(["arm", Column("tool", hide=1), "metric", *scores], rows)
    out.text(f"verdict: {found.verdict.word.upper()}\n{found.verdict.sentence}", VERDICTS)
    for note in found.notes:
        out.text(f"note: {note}")
