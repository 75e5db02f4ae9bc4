"""A function with annotated parameters as a click command. Typer reads them too, but loads pydantic (0.15 s) for one
flag.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import click

from .output import Output


@dataclass(frozen=True)
class Option:
    """`Annotated[int, Option("--seed", help=...)]`; the default is the parameter's own, and without one the option is
    required.
    """

    flags: str
    """`--seed`, `--quiet -q` or `--greedy/--no-greedy`."""
    help: str = ""
    min: float | None = None
    max: float | None = None
    hidden: bool = False
    """Taken, but not in the help: an older spelling."""


@dataclass(frozen=True)
class OptionGroup:
    """`Annotated[Output, OptionGroup(output)]`: the options of `by`, which makes one value of what they say."""

    by: Callable[..., Any]


@dataclass(frozen=True)
class Argument:
    """A positional parameter, shown in the help above the options."""

    help: str


def command(name: str, function: Callable[..., Any]) -> click.Command:
    """The click command that calls `function`; its docstring is the help."""
    declared = _declared(function)
    arguments = [(p.name.upper(), how.help) for p, _, how in declared if isinstance(how, Argument)]
    about = "".join(f"\n\n\b\n{label}: {text}" for label, text in arguments)
    text = inspect.getdoc(function) or ""
    return click.Command(
        name,
        callback=lambda **values: _call(function, values),
        params=[_parameter(*parameter) for parameter in _flat(declared)],
        help=text + about,
        short_help=text.partition("\n")[0],
    )


def _declared(function: Callable[..., Any]) -> list[tuple[inspect.Parameter, Any, Any]]:
    """(parameter, type, Option, Argument or OptionGroup) of each parameter."""
    hints = get_type_hints(function, include_extras=True)
    return [(p, *get_args(hints[p.name])) for p in inspect.signature(function).parameters.values()]


def _flat(declared: list[tuple[inspect.Parameter, Any, Any]]) -> Iterator[tuple[inspect.Parameter, Any, Any]]:
    """The same, each group replaced by the parameters of what makes it."""
    for parameter, kind, how in declared:
        if isinstance(how, OptionGroup):
            yield from _flat(_declared(how.by))
        else:
            yield parameter, kind, how


def _call(function: Callable[..., Any], values: dict[str, Any]) -> Any:
    """`function` with the values of its own parameters, those of its groups made first."""
    return function(
        **{
            p.name: _call(how.by, values) if isinstance(how, OptionGroup) else values[p.name]
            for p, _, how in _declared(function)
        }
    )


def _parameter(p: inspect.Parameter, kind: Any, how: Option | Argument) -> click.Parameter:
    if isinstance(kind, UnionType):
        kind = next(part for part in get_args(kind) if part is not type(None))
    many = get_origin(kind) is list
    base = get_args(kind)[0] if many else kind
    required = p.default is inspect.Parameter.empty
    # To click a default of None is a value: an option that has one is never missing.
    value: dict[str, Any] = {"required": True} if required else {"default": p.default}
    value["callback"] = _listed if many else None
    if isinstance(how, Argument):
        return click.Argument([p.name], type=_type(base), nargs=-1 if many else 1, **value)
    return click.Option(
        [*how.flags.split(), p.name],
        type=_type(base, how),
        is_flag=base is bool,
        multiple=many,
        help=how.help,
        hidden=how.hidden,
        show_default=not required and p.default is not None and p.default is not False,
        **value,
    )


def _type(base: type, how: Option = Option("")) -> Any:
    if base is Path:
        return click.Path(path_type=Path)
    if how.min is None and how.max is None:
        return base
    return click.IntRange(how.min, how.max) if base is int else click.FloatRange(how.min, how.max)  # pyright: ignore


def _listed(context: click.Context, parameter: click.Parameter, value: tuple[Any, ...] | None) -> list[Any] | None:
    return list(value) if value else None


Adapter = Annotated[str, Argument(help="An adapter by any of its names.")]
Named = Annotated[str, Argument(help="NAME or NAME@VERSION.")]
Target = Annotated[str | None, Option("--target", help="Model to put the adapters on.")]
Source = Annotated[str | None, Option("--source", help="Model to extract from: a registry name or base+adapter.")]
Recipe = Annotated[str | None, Option("--recipe", help="Registry name or YAML file.")]
Settings = Annotated[list[str] | None, Option("--set", help="key=value of the recipe, as training.learning_rate=1e-4.")]
Controls = Annotated[int, Option("--controls", help="Random adapters of the same norm, for each adapter.", min=0)]
ProblemSeed = Annotated[int, Option("--problem-seed --draw", help="Other problems of a generated benchmark.", min=0)]
NoSae = Annotated[bool, Option("--no-sae", help="Without its SAE, which is often the larger part.")]
Page = Annotated[Path | None, Option("--page", help="Also write the report: page.html, page.md or page.json.")]
Workspace = Annotated[Path | None, Option("--workspace", help="Folder that holds adapters/.")]
DryRun = Annotated[bool, Option("--dry-run", help="Say what would be done, and do nothing.")]
Force = Annotated[bool, Option("--force", help="Attach to unrelated weights of the same shapes all the same.")]
Yes = Annotated[bool, Option("--yes -y", help="Do not ask.")]
Json = Annotated[bool, Option("--json", help="One JSON document on stdout.")]
Quiet = Annotated[bool, Option("--quiet -q", help="Only the essential line.")]
Debug = Annotated[bool, Option("--debug", help="Show the traceback of an error.")]


def output(as_json: Json = False, quiet: Quiet = False, debug: Debug = False) -> Output:
    """`debug` is read where errors end, in `main`."""
    return Output(as_json=as_json, quiet=quiet)


Out = Annotated[Output, OptionGroup(output)]
"""The options that every command ends with, as the sink that they make."""
