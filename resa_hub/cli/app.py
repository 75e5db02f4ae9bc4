"""`resa-hub`: the table of commands. `main` has the single `try` around them."""

from collections.abc import Callable
from typing import Any

import click

from ..core import plugins
from . import (
    attach,
    demo,
    evaluate,
    extract,
    import_export,
    matrix,
    pull,
    push,
    recipe,
    registry,
    report,
    reproduce,
    search,
    store,
    sweep,
    versions,
)
from .options import command

COMMANDS: dict[str, Callable[..., Any] | dict[str, Callable[..., Any]]] = {
    "demo": demo.demo,
    "extract": extract.extract,
    "attach": attach.attach,
    "eval": {
        "judge": evaluate.judge,
        "plan": evaluate.plan,
        "logs": evaluate.logs,
        "harness": evaluate.harness,
    },
    "report": report.report,
    "matrix": matrix.matrix,
    "sweep": sweep.sweep,
    "push": push.push,
    "pull": pull.pull,
    "search": search.search,
    "list": store.list_,
    "show": store.show,
    "log": versions.log,
    "diff": versions.diff,
    "verify": store.verify,
    "tag": versions.tag,
    "rm": versions.rm,
    "gc": versions.gc,
    "import": import_export.import_,
    "export": import_export.export,
    "reproduce": reproduce.reproduce,
    "recipe": {"list": recipe.list_, "show": recipe.show},
    "registry": {"list": registry.registry, "pin": registry.pin},
} | {name: plugins.resolve(place, __package__ or "") for name, place in plugins.rows("COMMANDS").items()}
"""A noun has verbs of its own; the first is meant where none is named."""
MEANT = {
    "eval": {"--plan": "plan", "--import": "logs", "--harness": "harness", "--tool": "harness", "--tasks": "harness"}
}
"""Noun -> an option that only one of its verbs has -> that verb, which then needs no naming."""


class Commands(click.Group):
    """Listed in the order of a story, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


class DefaultGroup(Commands):
    """Its first command needs no naming: `registry models` is `registry list models`."""

    def __init__(self, name: str, commands: dict[str, click.Command], meant: dict[str, str]) -> None:
        about = "; ".join(f"{verb}: {one.short_help}" for verb, one in commands.items())
        short = next(iter(commands.values())).short_help
        super().__init__(name, commands=commands, help=about, short_help=short)
        self.meant = meant

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in {*self.commands, "-h", "--help"}:
            options = (arg.partition("=")[0] for arg in args)
            verb = next((self.meant[option] for option in options if option in self.meant), next(iter(self.commands)))
            args = [verb, *args]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The help of the command that needs no naming, then the others."""
        first, *others = self.commands.items()
        with click.Context(first[1], parent=ctx.parent, info_name=ctx.info_name) as meant:
            first[1].format_help(meant, formatter)
        with formatter.section("Others, each with a --help of its own"):
            formatter.write_dl([(f"{ctx.info_name} {name}", command.short_help or "") for name, command in others])


def _command(name: str, entry: Callable[..., Any] | dict[str, Callable[..., Any]]) -> click.Command:
    if not isinstance(entry, dict):
        return command(name, entry)
    verbs = {verb: command(verb, function) for verb, function in entry.items()}
    return DefaultGroup(name, verbs, MEANT.get(name, {}))


app = Commands(
    "resa-hub",
    commands={name: _command(name, entry) for name, entry in COMMANDS.items()},
    help="Reasoning adapters: extract, attach, share, and judge against controls.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
click.version_option(package_name="resa-hub", message="resa-hub %(version)s")(app)
