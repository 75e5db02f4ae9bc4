"""Options that several commands share, each written once."""

from pathlib import Path
from typing import Annotated

from .command import Argument, Made, Option
from .output import Output

Adapter = Annotated[str, Argument(help="An adapter by any of its names.")]
Named = Annotated[str, Argument(help="NAME or NAME@VERSION.")]

Source = Annotated[str | None, Option("--source", help="Model to extract from: a registry name or base+adapter.")]
Recipe = Annotated[str | None, Option("--recipe", help="Registry name or YAML file.")]
Settings = Annotated[list[str] | None, Option("--set", help="key=value of the recipe, as training.learning_rate=1e-4.")]
Controls = Annotated[int, Option("--controls", help="Random adapters of the same norm, for each adapter.", min=0)]
Draw = Annotated[int, Option("--draw", help="Other problems of a generated benchmark.", min=0)]
Page = Annotated[Path | None, Option("--page", help="Also write the report: page.html, page.md or page.json.")]
Workspace = Annotated[Path | None, Option("--workspace", help="Folder that holds adapters/.")]
DryRun = Annotated[bool, Option("--dry-run", help="Say what would be done, and do nothing.")]
Force = Annotated[bool, Option("--force", help="Attach to unrelated weights of the same shapes all the same.")]
Yes = Annotated[bool, Option("--yes -y", help="Do not ask.")]
Json = Annotated[bool, Option("--json", help="One JSON document on stdout.")]
Quiet = Annotated[bool, Option("--quiet -q", help="Only the essential line.")]
Debug = Annotated[bool, Option("--debug", help="Show the traceback of an error.")]


def output(as_json: Json = False, quiet: Quiet = False, debug: Debug = False) -> Output:
    """`debug` is read where errors end, in `app`."""
    return Output(as_json=as_json, quiet=quiet)


Out = Annotated[Output, Made(output)]
"""The options that every command ends with, as the sink that they make."""
