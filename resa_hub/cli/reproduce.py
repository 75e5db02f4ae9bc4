"""`reproduce`: an adapter made once more."""

from typing import Annotated

from typer import Option

from . import options
from .output import Output
from .render import import_export


def reproduce(
    name: options.Adapter,
    judge: Annotated[bool, Option("--judge", help="Also evaluate the new one wherever the old one was.")] = False,
    keep: Annotated[bool, Option("--keep", help="Keep the workspace in which it was made again.")] = False,
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> int:
    """Make an adapter again: the same bytes, or what differs and how far."""
    from ..core.progress import Progress
    from ..extraction.reproduce import reproduce as verb

    result = verb(name, workspace=workspace, judge=judge, keep=keep, progress=Progress(quiet=out.silent))
    import_export.reproduced(out, result)
    return 0 if result.same else 1
