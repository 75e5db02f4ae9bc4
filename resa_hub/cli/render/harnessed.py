"""The verdict on arms that another tool ran, as text and as JSON."""

import shlex
from typing import Any

from ..output import Output
from . import imported


def planned(
    names: Any,
    target: str,
    harness: str,
    tasks: str | None,
    limit: int | None,
    samples: int,
    seed: int,
    new_tokens: int | None,
    engines: Any,
    arms: str,
    controls: int,
    force: bool,
    workspace: Any,
) -> list[Any]:
    """The plans of `harness.plan`, one an adapter."""
    from ...adapter.workspace import Workspace
    from ...evaluation.harness.commands import HarnessConfig
    from ...evaluation.harness.run import plan

    named = tuple(filter(None, (task.strip() for task in (tasks or "").split(","))))
    asked, opened = HarnessConfig(named, limit, samples, seed, new_tokens, engines), Workspace.find(workspace)
    return [
        plan(name, target, harness, asked, opened, arms=arms.split(","), controls=controls, force=force)
        for name in names
    ]


def show(out: Output, made: list[Any], target: str, metric: str | None, dry_run: bool, progress: Any) -> None:
    import msgspec

    from ...evaluation.harness.run import evaluate

    if dry_run:
        commands = [
            [step.name, shlex.join(plan.command(step, step.folder)[1:])] for plan in made for step in plan.steps
        ]
        if not out.data({"commands": dict(commands)}, str(len(commands))):
            out.table(["arm", "python"], commands)
        return
    results = [result for plan in made for result in evaluate(plan, target, progress, metric)]
    documents = [msgspec.to_builtins(result) for result in results]
    if out.data(
        documents[0] if len(documents) == 1 else {"evaluations": documents},
        "\n".join(result.judged.verdict.word for result in results),
    ):
        return
    for result in results:
        out.text(
            f"\n{result.adapter} on {result.target} ({result.fit}), {result.task} by {result.harness} "
            f"{result.version} ({result.engine}, {result.dtype})"
        )
        imported.text(out, result.judged)
