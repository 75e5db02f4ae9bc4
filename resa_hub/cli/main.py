"""The entry point: the single `try` around a command, and the exit codes."""

import contextlib
import os
import sys
import time
from typing import NamedTuple

from ..core import torchrun
from ..core.errors import HubError
from .output import fail

INTERRUPTED = 130
ERROR_GRACE_SECONDS = 2.0
"""Seconds that the first process has to say what went wrong: torchrun ends all when one has ended."""


def main(arguments: list[str] | None = None) -> None:
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """The exit code of one command line; errors become one or two lines on stderr. Of several processes under torchrun
    the first one speaks.
    """
    if torchrun.world_size() == 1:
        return _run(arguments)
    from .groups import verb_first

    extracts = verb_first(arguments, ["extract"])[:1] == ["extract"]
    if torchrun.rank() == 0:
        return _run(arguments) if extracts else _alone_only(arguments)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        code = _run(arguments) if extracts else 2
    if code:
        time.sleep(ERROR_GRACE_SECONDS)
    return code


def _alone_only(arguments: list[str]) -> int:
    fail(
        "usage",
        f"torchrun runs `extract`, not `{' '.join(arguments[:1])}`",
        "leave torchrun out; a sweep has --executor ray",
        as_json="--json" in arguments,
    )
    return 2


def _run(arguments: list[str]) -> int:
    debug, as_json = "--debug" in arguments, "--json" in arguments
    try:
        from .app import app  # here: a plugin that is broken is an error like others

        result = app.main(arguments or ["--help"], prog_name="resa-hub", standalone_mode=False)
        sys.stdout.flush()
        if result == INTERRUPTED:  # Typer's word for Ctrl-C
            raise KeyboardInterrupt
        return result if isinstance(result, int) else 0
    except SystemExit as done:  # Typer ends so after it has installed completion, and when nobody reads any more
        return done.code if isinstance(done.code, int) else 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except BaseException as error:
        if debug:
            raise
        told = _told(error)
        fail(told.kind, told.message, told.hint, as_json=as_json)
        return told.code


class _Told(NamedTuple):
    """An error as a person reads it, and its exit code."""

    kind: str
    message: str
    hint: str
    code: int


def _told(error: BaseException) -> _Told:
    from typer import Abort
    from typer.exceptions import TyperException

    if isinstance(error, HubError):
        return _Told(error.kind, error.message, error.hint, error.exit_code)
    if isinstance(error, TyperException):
        context, near = getattr(error, "ctx", None), getattr(error, "possibilities", None)
        step = f"see `{context.command_path if context else 'resa-hub'} --help`"
        elsewhere = getattr(context and context.parent and context.parent.command, "verb_with", lambda *_: None)
        verb = elsewhere(context, getattr(error, "option_name", ""))
        if verb:
            return _Told("usage", error.message, f"it is an option of `{verb}`", 2)
        if near:
            return _Told("usage", error.message, f"did you mean {near[0]}? {step}", 2)
        return _Told("usage", error.format_message(), step, 2)
    if isinstance(error, KeyboardInterrupt | Abort):
        return _Told("interrupted", "interrupted", "run the same command again: what was finished is kept", INTERRUPTED)
    text = str(error).splitlines()[0][:200] if str(error) else ""
    return _Told("failed", f"{type(error).__name__}: {text}", "run it again with --debug for the traceback", 1)
