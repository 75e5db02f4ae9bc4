"""build -> extract -> attach -> eval -> results.md, each step once, through the product's own commands."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from itertools import islice
from pathlib import Path
from typing import Any

from resa_hub.core.progress import Progress

from . import forced, report, task
from .arms import ARMS, SAME_SAE, Arm
from .steps import Steps
from .workspace import DATA_SEED, SIBLING, SOURCE, TARGET, Size, build, files, pretrained


def run(
    home: Path,
    size: Size,
    progress: Progress,
    *,
    only_build: bool = False,
    arms: Sequence[Arm] = ARMS,
    base: Callable[[Path], None] = pretrained,
    jobs: int = 1,
) -> list[dict[str, Any]]:
    """All evaluations; the tables are in `results.md` of the workspace as far as it got.

    base: writes the model that all others stand on. jobs: arms at work at the same time.
    """
    steps = Steps(home)
    build(steps, size, progress, base)
    if only_build or not arms:
        return []
    first, *others = arms
    found: dict[str, list[dict[str, Any]]] = {}
    if jobs > 1:
        steps.environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))
    with ThreadPoolExecutor(jobs) as pool:
        begun = pool.submit(_judged, steps, size, first)
        running = {begun: first.name} | {pool.submit(_judged, steps, size, arm, begun): arm.name for arm in others}
        for done in as_completed(running):
            found[running[done]] = done.result()
            _write(home, steps, _in_order(arms, found))
    _write(home, steps, _in_order(arms, found), _forced(steps, size, home, first.name))
    return _in_order(arms, found)


def _in_order(arms: Sequence[Arm], found: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [evaluation for arm in arms for evaluation in found.get(arm.name, [])]


def _judged(steps: Steps, size: Size, arm: Arm, first: Future | None = None) -> list[dict[str, Any]]:
    """One arm, extracted and judged on target and sibling. It waits for the first arm where it needs its SAE, and
    before it needs what base and source said.
    """
    if first and set(SAME_SAE) & set(arm.settings):
        first.result()
    steps.once(f"extract {arm.name}", lambda: _extract(steps, size, arm))
    if first:
        first.result()
    else:
        for target in (TARGET, SIBLING):
            steps.once(
                f"attach {arm.name} to {target}",
                lambda target=target: steps.command("attach", arm.name, "--target", target),
            )
    return [
        steps.once(f"eval {arm.name} on {target}", lambda target=target: _evaluate(steps, size, arm, target))
        for target in (TARGET, SIBLING)
    ]


def _forced(steps: Steps, size: Size, home: Path, first: str) -> dict[str, dict[str, float]]:
    """Arithmetic alone: target, source, sibling, and both with the first adapter on them."""
    asked = list(islice(task.problems("test", DATA_SEED), size.forced))
    source, adapter = home / "models" / SOURCE, home / "adapters" / first / "0.1.0"
    cases = {
        f"{name} + {what}" if what else name: (name, folder)
        for name in (TARGET, SIBLING)
        for what, folder in (("", None), (SOURCE, source), (first, adapter))
    }
    return {
        label: steps.once(f"forced {label}", lambda n=name, f=folder: forced.accuracy(files(n), f, asked))
        for label, (name, folder) in cases.items()
    }


def _extract(steps: Steps, size: Size, arm: Arm) -> Any:
    settings = [part for setting in arm.settings for part in ("--set", setting.format(layer=size.layer))]
    return steps.command(
        "extract",
        "--source",
        SOURCE,
        "--recipe",
        "smol",
        "--method",
        arm.method,
        "--name",
        arm.name,
        "--seed",
        str(arm.seed),
        *settings,
    )


def _evaluate(steps: Steps, size: Size, arm: Arm, target: str) -> dict[str, Any]:
    """Beside base, source and random adapters of its own norm; what base and source said is read from the samples of
    before.
    """
    return steps.command(
        "eval",
        arm.name,
        "--target",
        target,
        "--benchmark",
        "chain-test",
        "--problems",
        str(size.test),
        "--samples",
        str(size.samples),
        "--controls",
        str(size.controls),
        "--no-greedy",
    )


def _write(
    home: Path, steps: Steps, evaluations: list[dict[str, Any]], alone: dict[str, dict[str, float]] | None = None
) -> None:
    parts = [
        report.scores(evaluations),
        report.gains(evaluations),
        report.forced(alone or {}),
        report.costs(steps.done),
    ]
    (home / "results.md").write_text("\n\n".join("\n".join(part) for part in parts) + "\n")
