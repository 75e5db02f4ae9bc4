"""`eval --harness`: another tool runs base, source, adapter and random controls, each as it is run by hand; `imported`
judges the results that it logs.

Every arm is a process of its own. What it logged is kept in the workspace's cache under a digest of all that decides
it, so that a second run goes on.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ...adapter.fit import Fit
from ...adapter.store import Adapter
from ...adapter.workspace import Workspace
from ...config.refs import ModelRef
from ...config.remotes import RemoteRef, parse_adapter
from ...core.devices import gpu_count
from ...core.errors import HubError, RunFailed
from ...core.progress import Progress
from ...core.strict import canonical_digest
from ...data.at_hand import is_local
from ...data.snapshots import Files, locate
from ...hub.resolve import chosen_adapter, fitting_adapter
from .. import arms as planning
from ..arms import BASE, RANDOM, SOURCE, USUAL, Arm
from ..sampling.collect import make_controls
from . import commands, tool_logs
from .checks import check
from .commands import TOOLS, HarnessConfig
from .imported import ADAPTER, Imported, external, judge_logs


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
    config: HarnessConfig
    """Engine and dtype settled, files of tasks as whole paths."""
    steps: list[Step]

    def command(self, step: Step, folder: Path) -> list[str]:
        """What is run to write the logs of an arm to `folder`."""
        config = self.config
        if self.harness == "inspect":
            # It takes a file only by a path from the current folder, else: "Non-relative patterns are unsupported".
            tasks = (os.path.relpath(task) if commands.file_of(task) else task for task in config.tasks)
            config = config._replace(tasks=tuple(tasks))
        return [sys.executable, "-m", *commands.arguments(self.harness, config, step.arm, folder)]


def plan(
    name: str,
    target: str,
    harness: str,
    config: HarnessConfig,
    workspace: Workspace,
    *,
    arms: Sequence[str] = USUAL,
    controls: int = 3,
    force: bool = False,
) -> HarnessPlan:
    """The arms and where their logs are kept. Raises `MissingExtra`, `Usage` and the errors of
    `hub.resolve.fitting_adapter`.
    """
    choice = check(name, target, harness, config, workspace, arms=arms, controls=controls)
    kinds, base = planning.arm_kinds(arms), locate(choice.target.base)
    tasks = tuple(commands.absolute(task) for task in config.tasks)
    config = config._replace(engines=config.engines.settled(base), tasks=tasks)
    adapter, fit = fitting_adapter(choice, workspace, base, force)
    steps = [
        Step(name, arm, workspace.cache / "harness" / _digest(harness, config, arm))
        for name, arm in _arms(adapter, base, workspace, kinds, controls).items()
    ]
    return HarnessPlan(adapter=adapter, fit=fit, target=base, harness=harness, config=config, steps=steps)


def outline(
    name: str, target: str, harness: str, config: HarnessConfig, workspace: Workspace, **choices: Any
) -> HarnessPlan | str:
    """The plan where everything that it needs is here, else what is checked when it is fetched. Raises as `plan`."""
    arms, controls = choices.get("arms", USUAL), choices.get("controls", 3)
    choice = check(name, target, harness, config, workspace, arms=arms, controls=controls)
    remote = isinstance(parse_adapter(choice.name or name), RemoteRef)
    if remote or not is_local(choice.target.base):
        return f"the commands of {name} on {target}, and whether it fits"
    adapter = chosen_adapter(choice, workspace)
    source = ModelRef.parse(adapter.manifest.source) if adapter and adapter.manifest.source else None
    if source and not all(is_local(repo) for repo in (source.base, source.adapter) if repo):
        return f"the source of {name}"
    return plan(name, target, harness, config, workspace, **choices)


def _arms(adapter: Adapter, base: Files, workspace: Workspace, kinds: Sequence[str], controls: int) -> dict[str, Arm]:
    """The arms by the names that `eval --import` has for them: base, source, adapter, random-1..."""
    label = adapter.manifest.reference
    sources = planning.source_arms(adapter.manifest, base) if SOURCE in kinds else []
    random = [kind for kind in kinds if kind == RANDOM]
    arms = [Arm(BASE, BASE, base), *(arm for arm in sources if arm.name == SOURCE)]
    arms += planning.adapter_arms(adapter, label, base, workspace.cache / "controls", controls, random)
    return {ADAPTER if arm.name == label else arm.name.removeprefix(f"{label} "): arm for arm in arms}


def evaluate(plan: HarnessPlan, target: str, progress: Progress, metric: str | None = None) -> list[HarnessResult]:
    """One verdict a task, kept beside the adapter. Raises `RunFailed` where the tool fails on an arm; arms that were
    finished by then are kept.
    """
    logs: dict[str, dict[str, Path]] = {}
    for step in plan.steps:
        if not step.folder.is_dir():
            with progress.stage(f"{plan.harness}, {step.name}", 1, "run") as advance:
                _run(plan, step, metric, progress)
                advance(1)
        logs[step.name] = commands.logged(plan.harness, step.folder)
    results = []
    for task in sorted(logs[BASE]):
        missing = [name for name, files in logs.items() if task not in files]
        if missing:
            raise RunFailed(
                f"{plan.harness} logged no samples of {task} for {', '.join(missing)}",
                f"delete {plan.steps[0].folder.parent} and run it again",
            )
        result = _judge(plan, target, task, {name: str(files[task]) for name, files in logs.items()}, metric)
        results.append(result)
        _save(plan, result)
    return results


def _judge(plan: HarnessPlan, target: str, task: str, logs: dict[str, str], metric: str | None) -> HarnessResult:
    """logs: arm -> file."""
    judged = judge_logs([f"{name}={path}" for name, path in logs.items()], metric)
    tool, manifest = TOOLS[plan.harness], plan.adapter.manifest
    return HarnessResult(
        adapter=manifest.reference,
        content_hash=manifest.content_hash,
        target=target,
        target_revision=plan.target.revision,
        fit=plan.fit.level,
        harness=plan.harness,
        version=version(tool.package),
        task=task,
        engine=plan.config.engines.name,
        dtype=plan.config.engines.dtype,
        judged=msgspec.structs.replace(judged, notes=[*judged.notes, tool.note]),
        logs=logs,
    )


def _save(plan: HarnessPlan, result: HarnessResult) -> None:
    from ..save import save_evaluation

    document = external(
        result.judged,
        adapter=result.adapter,
        content_hash=result.content_hash,
        target=result.target,
        target_revision=result.target_revision,
        fit=result.fit,
        benchmark=result.task,
        split=result.harness,
        harness=f"{result.harness} {result.version}",
        engine={"name": result.engine, "dtype": result.dtype},
        seed=plan.config.seed,
        new_tokens=plan.config.new_tokens,
    )
    save_evaluation(plan.adapter, document)


def _run(plan: HarnessPlan, step: Step, metric: str | None, progress: Progress) -> None:
    """The tool in a process of its own, into a folder that gets its name when its logs can be read. The output of a
    failed run stays beside it.
    """
    staged = step.folder.with_name(f"{step.folder.name}.{os.getpid()}.new")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    make_controls([step.arm])
    if plan.harness == "inspect" and step.arm.folder:
        commands.with_base(step.arm.folder, step.arm.base, staged / "adapter")
    progress.say(f"  {plan.harness} runs {step.name}: it reports in {staged / 'stderr.txt'}")
    with open(staged / "stdout.txt", "wb") as out, open(staged / "stderr.txt", "wb") as err:
        code = subprocess.run(
            plan.command(step, staged),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=_environment(),
            check=False,
        ).returncode
    problem = _failure(plan.harness, staged, code, metric)
    if problem:
        failed = step.folder.with_name(f"{step.folder.name}.failed")
        shutil.rmtree(failed, ignore_errors=True)
        staged.rename(failed)
        raise RunFailed(
            f"{plan.harness} failed on the arm {step.name!r}: {problem}",
            f"all that it said: {failed}; finished arms are kept",
        )
    if not step.folder.exists():  # another process may have run the same meanwhile
        staged.rename(step.folder)
    shutil.rmtree(staged, ignore_errors=True)


def _failure(harness: str, folder: Path, code: int, metric: str | None) -> str:
    """Why the run that wrote to `folder` cannot be used; empty where every log can be read."""
    files = commands.logged(harness, folder)
    if code or not files:
        return _last_line(folder / "stderr.txt") or _last_line(folder / "stdout.txt") or f"exit code {code}"
    try:
        for path in files.values():
            tool_logs.read(path, metric)
    except HubError as error:
        return error.message
    return ""


def _digest(harness: str, config: HarnessConfig, arm: Arm) -> str:
    """Of all that decides what a tool logs: for tasks in files also what lies beside them, by size and time, since
    their data may be there.
    """
    beside = []
    for task in config.tasks:
        file = commands.file_of(task)
        for path in sorted(file.parent.iterdir()) if file else ():
            if path.is_file():
                status = path.stat()
                beside.append([path.name, status.st_size, status.st_mtime_ns])
    # A control may not be made yet: its folder is named after its adapter's hash and a seed.
    control = [arm.base.weights_digest, arm.folder.name] if arm.origin and arm.folder else None
    command = commands.arguments(harness, config, arm, Path("."))
    parts = [harness, version(TOOLS[harness].package), command, control or arm.identity, beside]
    return canonical_digest(parts).partition(":")[2][:16]


def _environment() -> dict[str, str]:
    """vLLM on a CPU starts in seconds when it stays in one process."""
    settings = {"VLLM_NO_USAGE_STATS": "1", "TOKENIZERS_PARALLELISM": "false"}
    if not gpu_count():
        settings |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1"}
    return settings | os.environ


def _last_line(path: Path) -> str:
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
