"""Arms that another tool runs: their commands, and the verdicts on what it found."""

import shlex
from collections.abc import Sequence
from typing import Any

from ..output import Output
from . import imported


def planned(out: Output, plans: Sequence[Any]) -> None:
    """plans: `HarnessPlan`, one an adapter, or in words what is checked when it is fetched. The command of each arm, as
    a shell takes it.
    """
    left = [plan for plan in plans if isinstance(plan, str)]
    steps = [(plan, step) for plan in plans if not isinstance(plan, str) for step in plan.steps]
    there = sum(step.folder.is_dir() for _, step in steps)
    commands = [[step.name, shlex.join(plan.command(step, step.folder)[1:])] for plan, step in steps]
    document = {"commands": dict(commands), "finished": there, "checked_when_fetched": left}
    if out.data(document, str(len(commands))):
        return
    if commands:
        for name, command in commands:
            out.verbatim(f"# {name}\npython {command}")
        out.text(f"{there} of {len(commands)} arms were run before. The time is the tool's own: it is not estimated.")
    if left:
        out.text(f"checked when fetched: {'; '.join(left)}")


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
