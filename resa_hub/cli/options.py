"""Options that verbs share, and options that make one value together."""

import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from typer import Argument, Option

from ..core.progress import Progress, speak_through
from ..core.terminal import is_terminal
from . import complete
from .output import Output

FETCH_BARS = ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS")
GIVEN: ContextVar[frozenset[str]] = ContextVar("GIVEN", default=frozenset())
"""Parameters that stand on the command line, set by `groups.VerbCommand`."""


def given(name: str) -> bool:
    """Does the parameter `name` (as `new_tokens`) stand on this command line, rather than its default."""
    return name in GIVEN.get()


@dataclass(frozen=True)
class OptionGroup:
    """`Annotated[Output, OptionGroup(output)]`: the options of `by`, which makes one value of what they say."""

    by: Callable[..., Any]


def flatten(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function as Typer reads it: each `OptionGroup` parameter replaced by the parameters of what makes it."""
    parameters = [
        inspect.Parameter(p.name, inspect.Parameter.KEYWORD_ONLY, default=p.default, annotation=hint)
        for p, hint in _flat(function)
    ]

    def call(**values: Any) -> Any:
        return _call(function, values)

    call.__doc__, call.__name__ = inspect.getdoc(function), function.__name__
    call.__annotations__ = {p.name: p.annotation for p in parameters}
    vars(call)["__signature__"] = inspect.Signature(parameters)
    return call


def _flat(function: Callable[..., Any]) -> Iterator[tuple[inspect.Parameter, Any]]:
    for parameter, hint in _hinted(function):
        group = _group(hint)
        if group:
            yield from _flat(group.by)
        else:
            yield parameter, hint


def _call(function: Callable[..., Any], values: dict[str, Any]) -> Any:
    """`function` with the values of its own parameters, those of its groups made first."""
    arguments = {}
    for parameter, hint in _hinted(function):
        group = _group(hint)
        arguments[parameter.name] = _call(group.by, values) if group else values[parameter.name]
    return function(**arguments)


def _hinted(function: Callable[..., Any]) -> list[tuple[inspect.Parameter, Any]]:
    hints = get_type_hints(function, include_extras=True)
    return [(p, hints[p.name]) for p in inspect.signature(function).parameters.values()]


def _group(hint: Any) -> OptionGroup | None:
    extras = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return next((extra for extra in extras if isinstance(extra, OptionGroup)), None)


Adapter = Annotated[str, Argument(help="An adapter by any of its names.", autocompletion=complete.adapters)]
Named = Annotated[str, Argument(help="NAME or NAME@VERSION.", autocompletion=complete.adapters)]
Target = Annotated[str | None, Option("--target", help="Model to put the adapters on.", autocompletion=complete.models)]
Source = Annotated[
    str | None,
    Option(
        "--source",
        help="Model to extract from: name, Hub id, folder, or base+adapter.",
        autocompletion=complete.models,
    ),
]
Recipe = Annotated[str | None, Option("--recipe", help="Registry name or YAML file.", autocompletion=complete.recipes)]
Settings = Annotated[list[str] | None, Option("--set", help="key=value of the recipe, as training.learning_rate=1e-4.")]
Controls = Annotated[int, Option("--controls", help="Random adapters of the same norm, for each adapter.", min=0)]
ProblemSeed = Annotated[int, Option("--problem-seed", "--draw", help="Other problems of a generated benchmark.", min=0)]
NoSae = Annotated[bool, Option("--no-sae", help="Without its SAE, which is often the larger part.")]
Page = Annotated[Path | None, Option("--page", help="Also write the report: page.html, page.md or page.json.")]
Workspace = Annotated[Path | None, Option("--workspace", help="Folder that holds adapters/.")]
DryRun = Annotated[bool, Option("--dry-run", help="Say what would be done, and do nothing.")]
Force = Annotated[bool, Option("--force", help="Attach to unrelated weights of the same shapes all the same.")]
NewTokens = Annotated[
    int | None, Option("--new-tokens", help="Budget of an answer; the benchmark's own by default.", min=1)
]
Rate = Annotated[float | None, Option("--rate", help="USD an hour of the machine, to tell the price.", min=0)]
Yes = Annotated[bool, Option("--yes", "-y", help="Do not ask.")]
Json = Annotated[bool, Option("--json", help="One JSON document on stdout.")]
Quiet = Annotated[bool, Option("--quiet", "-q", help="Only the essential line.")]
Debug = Annotated[bool, Option("--debug", help="Show the traceback of an error.")]


def output(as_json: Json = False, quiet: Quiet = False, debug: Debug = False) -> Output:
    """`debug` is read where errors end, in `main`. The libraries that fetch draw bars only where people see them."""
    if as_json or quiet or not is_terminal(sys.stderr):
        os.environ.update(dict.fromkeys(FETCH_BARS, "1"))
    made = Output(as_json=as_json, quiet=quiet)
    speak_through(Progress(quiet=made.silent))
    return made


Out = Annotated[Output, OptionGroup(output)]
"""The options that every command ends with, as the sink that they make."""
