"""build -> extract -> attach -> eval -> results.md, each step once, through the product's own commands."""

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from resa_hub.progress import Progress

from . import forced, report, task
from .arms import GROUPS, Arm
from .steps import Steps
from .workspace import DATA_SEED, SIBLING, SOURCE, TARGET, Size, build, files, pretrained


def run(
    home: Path,
    size: Size,
    progress: Progress,
    *,
    only_build: bool = False,
    groups: Sequence[Sequence[Arm]] = GROUPS,
    base: Callable[[Path], None] = pretrained,
) -> list[dict[str, Any]]:
    """All evaluations; the tables are in `results.md` of the workspace as far as it got. base: writes the model that all others stand on."""
    steps = Steps(home)
    build(steps, size, progress, base)
    evaluations: list[dict[str, Any]] = []
    for arms in () if only_build else groups:
        names = [name for arm in arms for name, _ in arm.adapters()]
        for arm in arms:
            for name, seed in arm.adapters():
                steps.once(f"extract {name}", lambda name=name, seed=seed, arm=arm: _extract(steps, size, arm, name, seed))
        for target in (TARGET, SIBLING):
            steps.once(f"attach {names[0]} to {target}", lambda target=target, name=names[0]: steps.command("attach", name, "--target", target))
            controls = max(arm.controls for arm in arms)
            label = f"eval {', '.join(names)} on {target}"
            evaluations += steps.once(label, lambda target=target, names=names, count=controls: _evaluate(steps, size, names, target, count))
            _write(home, steps, evaluations)
    if evaluations:
        _write(home, steps, evaluations, _forced(steps, size, home))
    return evaluations


def _forced(steps: Steps, size: Size, home: Path) -> dict[str, dict[str, float]]:
    """Arithmetic alone: target, source, sibling, and both with the first adapter on them."""
    asked = list(islice(task.problems("test", DATA_SEED), size.forced))
    source, adapter = home / "models" / SOURCE, home / "adapters/features-s0/0.1.0"
    cases = {
        f"{name} + {what}" if what else name: (name, folder)
        for name in (TARGET, SIBLING) for what, folder in (("", None), (SOURCE, source), ("features-s0", adapter))
    }  # fmt: skip
    return {label: steps.once(f"forced {label}", lambda n=name, f=folder: forced.accuracy(files(n), f, asked)) for label, (name, folder) in cases.items()}


def _extract(steps: Steps, size: Size, arm: Arm, name: str, seed: int) -> Any:
    settings = [part for setting in arm.settings for part in ("--set", setting.format(layer=size.layer))]
    return steps.command(
        "extract", "--source", SOURCE, "--recipe", "smol", "--method", arm.method, "--name", name, "--seed", str(seed), *settings
    )  # fmt: skip


def _evaluate(steps: Steps, size: Size, names: list[str], target: str, controls: int) -> list[dict[str, Any]]:
    """The adapters of one group on one target together: one family of tests."""
    found = steps.command(
        "eval", *names, "--target", target, "--benchmark", "chain-test", "--problems", str(size.test), "--samples", str(size.samples),
        "--controls", str(controls), "--no-greedy",
    )  # fmt: skip
    return found.get("evaluations", [found])


def _write(home: Path, steps: Steps, evaluations: list[dict[str, Any]], alone: dict[str, dict[str, float]] | None = None) -> None:
    parts = [report.scores(evaluations), report.gains(evaluations), report.forced(alone or {}), report.costs(steps.done)]
    (home / "results.md").write_text("\n\n".join("\n".join(part) for part in parts) + "\n")
