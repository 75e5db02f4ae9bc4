"""build -> extract -> attach -> eval -> results.md, each step once, through the product's own commands."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from resa_hub.progress import Progress

from . import report
from .arms import ARMS, Arm
from .steps import Steps
from .workspace import SIBLING, SOURCE, TARGET, Size, build, pretrained


def run(
    home: Path, size: Size, progress: Progress, only: str = "all", arms: tuple[Arm, ...] = ARMS, base: Callable[[Path], None] = pretrained
) -> list[dict[str, Any]]:
    """All evaluations; the tables are in `results.md` of the workspace. `only`: stop behind `build` or `extract`. base: writes the model all others stand on."""
    steps = Steps(home)
    build(steps, size, progress, base)
    if only == "build":
        return []
    for arm in arms:
        for name, seed in arm.adapters():
            steps.once(f"extract {name}", lambda name=name, seed=seed, arm=arm: _extract(steps, arm, name, seed))
    if only == "extract":
        return []
    evaluations: list[dict[str, Any]] = []
    for target in (TARGET, SIBLING):
        for arm in arms:
            first = arm.adapters()[0][0]
            steps.once(f"attach {first} to {target}", lambda name=first, target=target: steps.command("attach", name, "--target", target))
        for main in (True, False):
            names = [name for arm in arms if arm.main == main for name, _ in arm.adapters()]
            if names:
                label = f"eval {'main' if main else 'other'} arms on {target}"
                evaluations += steps.once(label, lambda n=names, t=target, c=size.controls if main else 0: _evaluate(steps, size, n, t, c))
                _write(home, steps, evaluations)
    return evaluations


def _extract(steps: Steps, arm: Arm, name: str, seed: int) -> Any:
    settings = [part for setting in arm.settings for part in ("--set", setting)]
    return steps.command(
        "extract", "--source", SOURCE, "--recipe", "smol", "--method", arm.method, "--name", name, "--seed", str(seed), *settings
    )  # fmt: skip


def _evaluate(steps: Steps, size: Size, names: list[str], target: str, controls: int) -> list[dict[str, Any]]:
    """The adapters of one target together: one family of tests."""
    found = steps.command(
        "eval", *names, "--target", target, "--benchmark", "chain-test", "--problems", str(size.test), "--samples", str(size.samples),
        "--controls", str(controls), "--no-greedy",
    )  # fmt: skip
    return found.get("evaluations", [found])


def _write(home: Path, steps: Steps, evaluations: list[dict[str, Any]]) -> None:
    parts = [report.scores(evaluations), report.gains(evaluations), report.costs(steps.done)]
    (home / "results.md").write_text("\n\n".join("\n".join(part) for part in parts) + "\n")
