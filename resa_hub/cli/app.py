"""`resa-hub`: the table of commands and the single `try` around them."""

from collections.abc import Callable
from typing import Any

import click

from . import attach, demo, evaluate, exchange, extract, matrix, recipe, registry, report, share, store, sweep, versions
from .options import command

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


class Commands(click.Group):
    """Listed in the order of a story, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


class DefaultGroup(Commands):
    """Its first command needs no naming: `registry models` is `registry list models`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in {*self.commands, "-h", "--help"}:
            args = [next(iter(self.commands)), *args]
        return super().parse_args(ctx, args)


def _command(name: str, made: Callable[..., Any] | dict[str, Callable[..., Any]]) -> click.Command:
    if not isinstance(made, dict):
        return command(name, made)
    verbs = {verb: command(verb, function) for verb, function in made.items()}
    return DefaultGroup(
        name,
        commands=verbs,
        help="; ".join(f"{verb}: {c.short_help}" for verb, c in verbs.items()),
        short_help=next(iter(verbs.values())).short_help,
    )


app = Commands(
    "resa-hub",
    commands={name: _command(name, made) for name, made in COMMANDS.items()},
    help="Reasoning adapters: extract, attach, share, and judge against controls.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
click.version_option(package_name="resa-hub", message="resa-hub %(version)s")(app)
