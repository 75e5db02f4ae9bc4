"""Options that many commands share."""

from pathlib import Path
from typing import Annotated

from .command import Option

Json = Annotated[bool, Option("--json", help="One JSON document on stdout.")]
Quiet = Annotated[bool, Option("--quiet -q", help="Only the essential line.")]
Debug = Annotated[bool, Option("--debug", help="Show the traceback of an error.")]
Workspace = Annotated[Path | None, Option("--workspace", help="Folder that holds adapters/.")]
DryRun = Annotated[bool, Option("--dry-run", help="Say what would be done, and do nothing.")]
Force = Annotated[bool, Option("--force", help="Attach to unrelated weights of the same shapes all the same.")]
Yes = Annotated[bool, Option("--yes -y", help="Do not ask.")]
