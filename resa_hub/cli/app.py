"""`resa-hub`: the table of commands and the single `try` around them."""

import contextlib
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from .. import ranks
from ..errors import HubError
from . import attach, demo, evaluate, exchange, extract, matrix, recipe, registry, report, share, store, sweep, versions
from .command import command
from .output import fail

COMMANDS: dict[str, Callable[..., Any] | dict[str, Callable[..., Any]]] = {
    "demo": demo.demo,
    "extract": extract.extract,
    "attach": attach.attach,
    "eval": evaluate.evaluate,
    "report": report.report,
    "matrix": matrix.matrix,
    "sweep": sweep.sweep,
    "push": share.push,
    "pull": share.pull,
    "search": share.search,
    "list": store.list_,
    "show": store.show,
    "log": versions.log,
    "diff": versions.diff,
    "verify": store.verify,
    "tag": versions.tag,
    "rm": versions.rm,
    "gc": versions.gc,
    "import": exchange.import_,
    "export": exchange.export,
    "reproduce": exchange.reproduce,
    "recipe": {"list": recipe.list_, "show": recipe.show},
    "registry": {"list": registry.registry, "pin": registry.pin},
}
"""A noun has verbs of its own; the first is meant where none is named."""


SPEAKING = 2.0
"""Seconds that the first process has to say what went wrong: torchrun ends all when one has ended."""


class Commands(click.Group):
    """Listed in the order of a story, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


class Noun(Commands):
    """Its first command needs no naming: `registry models` is `registry list models`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in {*self.commands, "-h", "--help"}:
            args = [next(iter(self.commands)), *args]
        return super().parse_args(ctx, args)


def _command(name: str, made: Callable[..., Any] | dict[str, Callable[..., Any]]) -> click.Command:
    if not isinstance(made, dict):
        return command(name, made)
    verbs = {verb: command(verb, function) for verb, function in made.items()}
    return Noun(name, commands=verbs, help="; ".join(f"{verb}: {c.short_help}" for verb, c in verbs.items()), short_help=next(iter(verbs.values())).short_help)


app = Commands(
    "resa-hub",
    commands={name: _command(name, made) for name, made in COMMANDS.items()},
    help="Reasoning adapters: extract, attach, share, and judge against controls.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
click.version_option(package_name="resa-hub", message="resa-hub %(version)s")(app)


def main(arguments: list[str] | None = None) -> None:
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """The exit code of one command line; errors become one or two lines on stderr. Of several processes under torchrun the first one speaks."""
    if ranks.world() == 1:
        return _run(arguments)
    if ranks.rank() == 0:
        return _run(arguments) if arguments[:1] == ["extract"] else _alone_only(arguments)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        code = _run(arguments) if arguments[:1] == ["extract"] else 2
    if code:
        time.sleep(SPEAKING)
    return code


def _alone_only(arguments: list[str]) -> int:
    fail("usage", f"torchrun runs `extract`, not `{' '.join(arguments[:1])}`", "leave torchrun out; a sweep has --executor ray", as_json="--json" in arguments)
    return 2


def _run(arguments: list[str]) -> int:
    debug, as_json = "--debug" in arguments, "--json" in arguments
    try:
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
        fail("usage", error.format_message(), f"see `{context.command_path if context else 'resa-hub'} --help`", as_json=as_json)
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
        fail("failed", f"{type(error).__name__}: {text}", "run it again with --debug for the traceback", as_json=as_json)
        return 1
