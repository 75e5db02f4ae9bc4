"""`doctor`: is everything in order here, and what to do where it is not."""

from typing import Annotated

from typer import Option

from . import options
from .output import Output


def doctor(
    offline: Annotated[bool, Option("--offline", help="Ask nothing of the network.")] = False,
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> int:
    """Is everything in order here, and what to do where it is not.

    Versions, machine, extras, Hub, workspace and caches.

    Exit code 1 where something does not work; warnings do not count.
    """
    from ..adapter.workspace import Workspace
    from ..upkeep.examine import examine, is_usable
    from .render import doctor

    sections = examine(Workspace.find(workspace), offline=offline)
    doctor.show(out, sections)
    return 0 if is_usable(sections) else 1
