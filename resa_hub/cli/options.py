"""Options that many commands share."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only the essential line.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Workspace = Annotated[Path | None, typer.Option("--workspace", help="Folder that holds adapters/.", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Force = Annotated[bool, typer.Option("--force", help="Attach to unrelated weights of the same shapes all the same.")]
