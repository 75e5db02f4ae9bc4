"""Typer's commands and groups, made from the table of verbs: a verb's module is imported when the verb is called."""

import difflib
import os
import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from ..core import plugins
from ..core.errors import Usage, did_you_mean
from . import combinations
from .options import GIVEN, flatten
from .text_params import keep_texts
from .verbs import Verb

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
HELP = {"-h", "--help"}
VALUED = {"--workspace"}
"""Options of every verb that take a value."""


class Helpful:
    """What verbs and groups do with Typer's help: headings in bold, and no pydantic for the flag."""

    def get_help(self, ctx: Any) -> str:
        return emphasized(super().get_help(ctx))  # pyright: ignore[reportAttributeAccessIssue]

    def get_help_option(self, ctx: Any) -> Any:
        option = super().get_help_option(ctx)  # pyright: ignore[reportAttributeAccessIssue]
        keep_texts([option])
        return option


class VerbCommand(Helpful, TyperCommand):
    """A verb: its help ends with an example, and `options.given` knows what stands on the command line."""

    example = ""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        if self.example:
            with formatter.section("Example"):
                formatter.write(f"  resa-hub {self.example}\n")

    def invoke(self, ctx: Any) -> Any:
        sources = ((name, ctx.get_parameter_source(name)) for name in ctx.params)
        given = frozenset(name for name, source in sources if source and source.name == "COMMANDLINE")
        token = GIVEN.set(given)
        try:
            combinations.check(ctx.command_path.partition(" ")[2], ctx.params, given)
            return super().invoke(ctx)
        finally:
            GIVEN.reset(token)


class VerbGroup(Helpful, TyperGroup):
    """Verbs of a table. Options may stand before the verb, and `help VERB` is `VERB --help`."""

    rows: dict[str, Verb]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands and cmd_name in self.rows:
            self.commands[cmd_name] = _command(cmd_name, self.rows[cmd_name])
        return self.commands.get(cmd_name)

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.rows)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        args = verb_first(asked_for_help(args), self.rows)
        options = {option for param in self.get_params(ctx) for option in param.opts}
        if args and args[0].startswith("-") and args[0] not in options and not ctx.resilient_parsing:
            raise Usage("no verb is named", f"`{ctx.command_path} --help` lists the verbs")
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.rows and not ctx.resilient_parsing:
            near = difflib.get_close_matches(args[0], self.rows, n=1)
            step = did_you_mean(args[0], near) if near else f"`{ctx.command_path} --help` lists the verbs"
            raise Usage(f"no such verb {args[0]!r}", step)
        return super().resolve_command(ctx, args)


class Root(VerbGroup):
    """Its help shows the verbs under headings, in the order of a story."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        width = max(map(len, self.rows))
        for panel in dict.fromkeys(row.panel for row in self.rows.values()):
            verbs = [(name.ljust(width), about(row)) for name, row in self.rows.items() if row.panel == panel]
            with formatter.section(panel):
                formatter.write_dl(verbs)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        formatter.write("\n`resa-hub help VERB` shows a verb's options and an example.\n")


class Noun(VerbGroup):
    """Its first verb needs no naming: `registry models` is `registry list models`."""

    meant: dict[str, str]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        args = verb_first(asked_for_help(args), self.rows)
        if not args and ctx.resilient_parsing:  # a shell completes what follows the noun
            return TyperGroup.parse_args(self, ctx, args)
        if not args or (args[0] not in self.rows and args[0] not in HELP):
            options = (arg.partition("=")[0] for arg in args)
            verb = next((self.meant[option] for option in options if option in self.meant), next(iter(self.rows)))
            args = [verb, *args]
        return TyperGroup.parse_args(self, ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """The noun's verbs, and what the verb that needs no naming takes."""
        name = next(iter(self.rows))
        meant = self.get_command(ctx, name).make_context(name, [], parent=ctx, resilient_parsing=True)
        if incomplete.startswith("-"):
            return meant.command.shell_complete(meant, incomplete)
        taken = next((param for param in meant.command.params if param.param_type_name == "argument"), None)
        values = taken.shell_complete(meant, incomplete) if taken else []
        return [*super().shell_complete(ctx, incomplete), *values]

    def verb_with(self, ctx: Any, option: str) -> str | None:
        """The other verb of this noun that has an option, as it is called; ctx: of the verb that has it not."""
        for name in self.rows:
            command = self.get_command(ctx.parent, name)
            if command is not ctx.command and any(option in param.opts for param in command.params):
                return f"{ctx.parent.command_path} {name}"
        return None

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help of the verb that needs no naming, then the others."""
        first, *others = self.rows
        meant = self.get_command(ctx, first)
        with type(ctx)(meant, parent=ctx.parent, info_name=ctx.info_name) as context:
            meant.format_help(context, formatter)
        with formatter.section("Others, each with a --help of its own"):
            formatter.write_dl([(f"{ctx.info_name} {name}", about(self.rows[name])) for name in others])


def root_command(rows: dict[str, Verb]) -> Root:
    """The command `resa-hub`, with `--version` and Typer's options of completion."""
    app = typer.Typer(cls=Root, context_settings=CONTEXT, rich_markup_mode=None, subcommand_metavar="VERB ...")
    app.callback(help="Reasoning adapters: extract, attach, share, and judge against controls.")(_root)
    root = get_command(app)
    assert isinstance(root, Root)
    root.rows = rows
    keep_texts(root.params)
    return root


def _show_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        print(f"resa-hub {version('resa-hub')}")
        raise typer.Exit()


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None: ...


def _command(name: str, row: Verb) -> Any:
    thing = plugins.resolve(row.place, __package__ or "") if isinstance(row.place, str) else row.place
    if isinstance(thing, dict):  # a plugin's noun
        row = row._replace(verbs={verb: Verb(function) for verb, function in thing.items()})
    if row.verbs:
        return _noun(name, row)
    assert callable(thing), f"{row.place} is no function"
    return _verb(name, row, thing)


def _verb(name: str, row: Verb, function: Callable[..., Any]) -> VerbCommand:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name, cls=VerbCommand)(flatten(function))
    command = get_command(app)
    assert isinstance(command, VerbCommand)
    command.example = row.example
    keep_texts(command.params)
    return command


def _noun(name: str, row: Verb) -> Noun:
    noun = Noun(name=name, help=about(row), rich_markup_mode=None, subcommand_metavar="VERB ...")
    noun.rows, noun.meant = row.verbs, row.meant
    return noun


def about(row: Verb) -> str:
    """The line that help shows; of a plugin's verb the first line of its docstring."""
    if row.about:
        return row.about
    thing = plugins.resolve(row.place, __package__ or "") if isinstance(row.place, str) else row.place
    first = next(iter(thing.values())) if isinstance(thing, dict) else thing
    return (first.__doc__ or "").partition("\n")[0]


def asked_for_help(args: list[str]) -> list[str]:
    """`help VERB` as `VERB --help`."""
    return [*args[1:], "--help"] if args[:1] == ["help"] else args


def verb_first(args: list[str], verbs: Iterable[str]) -> list[str]:
    """Options that stand before the verb, put behind it."""
    if not args or not args[0].startswith("-"):
        return args
    for at, word in enumerate(args):
        if word in verbs and args[at - 1] not in VALUED:
            return [word, *args[:at], *args[at + 1 :]]
    return args


def emphasized(text: str) -> str:
    """Help with its headings in bold, which Typer's echo takes out again where no terminal reads it."""
    if os.environ.get("NO_COLOR"):
        return text
    return re.sub(r"^(\S[^\n]*?:)(?=\n|  | resa-hub)", "\033[1m\\1\033[0m", text, flags=re.MULTILINE)
