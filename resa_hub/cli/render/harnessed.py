"""Arms that another tool runs: their commands, and the verdicts on what it found."""

import shlex
from collections.abc import Sequence
from typing import Any

from ..output import Output
from . import imported


def planned(out: Output, plans: Sequence[Any]) -> None:
    """plans: `HarnessPlan`, one an adapter. The command of each arm, as a shell takes it."""
    steps = [(plan, step) for plan in plans for step in plan.steps]
    commands = [[step.name, shlex.join(plan.command(step, step.folder)[1:])] for plan, step in steps]
    if not out.data({"commands": dict(commands)}, str(len(commands))):
        out.table(["arm", "python"], commands)


def show(out: Output, plans: Sequence[Any], target: str, metric: str | None) -> None:
    """Run what is missing, then the verdict on every adapter and task."""
    import msgspec

    from ...core.progress import Progress
    from ...evaluation.harness.run import evaluate

    progress = Progress(quiet=out.silent)
    results = [result for plan in plans for result in evaluate(plan, target, progress, metric)]
    documents = [msgspec.to_builtins(result) for result in results]
    together = documents[0] if len(documents) == 1 else {"evaluations": documents}
    if out.data(together, "\n".join(result.judged.verdict.word for result in results)):
        return
    for result in results:
        tool = f"{result.harness} {result.version} ({result.engine}, {result.dtype})"
        out.text(f"\n{result.adapter} on {result.target} ({result.fit}), {result.task} by {tool}")
        imported.text(out, result.judged)
