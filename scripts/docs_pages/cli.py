"""The command line: every verb with its arguments, options and an example, from the commands themselves."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from resa_hub.cli.app import app
from resa_hub.cli.verbs import COMMANDS, Verb

from .markdown import block, code, prose, table
from .markdown import page as whole

ABOUT = """`resa-hub VERB --help` shows the same. Options stand before or after the verb. What a verb finds goes to
stdout, everything else to stderr; `--json` makes it one document. `resa-hub --version` tells the version,
`resa-hub --install-completion` lets the shell complete verbs, options and names."""


def page() -> str:
    parts = []
    for panel, rows in groupby(COMMANDS.items(), key=lambda row: row[1].panel):
        parts.append(f"## {panel}")
        for name, row in rows:
            parts += [_verb(full, verb, command) for full, verb, command in _verbs(name, row)]
    return whole("Command line", ABOUT, _everywhere(), *parts)


def _verbs(name: str, row: Verb) -> Iterator[tuple[str, Verb, Any]]:
    command: Any = app.get_command(None, name)
    if not row.verbs:
        yield name, row, command
    for inner, verb in row.verbs.items():
        yield f"{name} {inner}", verb, command.get_command(None, inner)


SHARED = ("workspace", "as_json", "quiet", "debug")


def _everywhere() -> str:
    params = {param.name: param for param in app.get_command(None, "list").params}
    rows = [_row(params[name]) for name in SHARED]
    return "## Everywhere\n\n" + table(["option", "meaning"], rows)


def _verb(name: str, row: Verb, command: Any) -> str:
    params = [p for p in command.params if p.name not in SHARED and not getattr(p, "hidden", False)]
    arguments = [p for p in params if p.param_type_name == "argument"]
    options = [p for p in params if p.param_type_name != "argument"]
    parts = [f"### {name}", prose(command.help or row.about)]
    usage = " ".join(["resa-hub", name, *map(_usage, arguments), *(["[OPTIONS]"] if options else [])])
    parts.append(block(usage))
    if arguments:
        parts.append(table(["argument", "meaning"], [_row(p) for p in arguments]))
    if options:
        parts.append(table(["option", "meaning"], [_row(p) for p in options]))
    if row.example:
        parts.append(f"Example: {code(f'resa-hub {row.example}')}")
    return "\n\n".join(parts)


def _usage(param: Any) -> str:
    word = param.name.upper() + ("..." if param.nargs == -1 else "")
    return word if param.required else f"[{word}]"


def _row(param: Any) -> list[str]:
    if param.param_type_name == "argument":
        return [code(_usage(param)), prose(param.help or "") + _default(param)]
    names = ", ".join(code(name) for name in [*param.opts, *param.secondary_opts])
    repeated = " May be given more than once." if param.multiple else ""
    return [names, prose(param.help or "") + repeated + _default(param)]


def _default(param: Any) -> str:
    """A sentence, where there is something to say."""
    if param.required:
        return " Required."
    if param.default in (None, "", ()) or (getattr(param, "is_flag", False) and not param.secondary_opts):
        return ""
    if isinstance(param.default, bool):
        return f" Default: {code(param.opts[0] if param.default else param.secondary_opts[0])}."
    return f" Default: {code(str(param.default))}."
