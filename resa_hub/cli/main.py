"""The entry point: the single `try` around a command, and the exit codes."""

import contextlib
import os
import sys
import time

import click

from ..core import torchrun
from ..core.errors import HubError
from .output import fail

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
    if torchrun.rank() == 0:
        return _run(arguments) if arguments[:1] == ["extract"] else _alone_only(arguments)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        code = _run(arguments) if arguments[:1] == ["extract"] else 2
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
        return result if isinstance(result, int) else 0
    except HubError as error:
        if debug:
            raise
        fail(error.kind, error.message, error.hint, as_json=as_json)
        return error.exit_code
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        fail(
            "usage",
            error.format_message(),
            f"see `{context.command_path if context else 'resa-hub'} --help`",
            as_json=as_json,
        )
        return 2
    except (KeyboardInterrupt, click.Abort):
        fail("interrupted", "interrupted", "run the same command again: what was finished is kept", as_json=as_json)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            raise
        text = str(error).splitlines()[0][:200] if str(error) else ""
        fail(
            "failed", f"{type(error).__name__}: {text}", "run it again with --debug for the traceback", as_json=as_json
        )
        return 1
