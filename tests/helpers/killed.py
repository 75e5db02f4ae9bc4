"""Extractions in processes of their own that can be killed at any moment. A fork server loads the libraries once."""

import contextlib
import multiprocessing
import os
import resource
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from resa_hub.core.errors import HubError
from tests.helpers.commands import HANG

LOADED = [
    "resa_hub.extraction.extract",
    "resa_hub.engine.run",
    "resa_hub.engine.methods.feature_diff",
    "resa_hub.engine.methods.sae_tuning",
    "tests.helpers.killed",
]


def start(
    workspace: Path, log: Path, settings: list[str], limits: dict[int, int] | None = None, **choices: Any
) -> BaseProcess:
    """An extraction of tina-tiny that writes a state at every step; its exit code is that of the command line."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    process = context.Process(target=_extract, args=(workspace, log, settings, limits or {}, choices))
    process.start()
    return process


def finish(process: BaseProcess) -> int | None:
    process.join(HANG)
    return process.exitcode


def _extract(workspace: Path, log: Path, settings: list[str], limits: dict[int, int], choices: dict[str, Any]) -> None:
    from resa_hub.extraction.extract import extract

    os.environ["RESA_HUB_STATE_SECONDS"] = "0"
    for kind, extra in limits.items():
        before = _address_space() if kind == resource.RLIMIT_AS else 0
        resource.setrlimit(kind, (before + extra, resource.RLIM_INFINITY))
    # Its log is open already: a limit on files must not hit what the test reads.
    with log.open("a", buffering=1) as file, contextlib.redirect_stderr(file):
        try:
            adapter, _ = extract("tina-tiny", workspace=workspace, settings=settings, **choices)
            print("made", adapter.manifest.content_hash, file=sys.stderr)
        except HubError as error:
            print(f"error {error.kind}: {error.message} | {error.hint}", file=sys.stderr)
            sys.exit(error.exit_code)


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
