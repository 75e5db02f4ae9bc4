"""`pull`: an adapter from a remote."""

from typing import Annotated

from typer import Argument

from ..config.remotes import VERSIONS_HELP
from . import options
from .output import Output
from .render import push_pull


def pull(
    ref: Annotated[str, Argument(help=f"{VERSIONS_HELP}.")],
    no_sae: options.NoSae = False,
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """Fetch an adapter, check every byte, and put it into the store."""
    from ..hub.sharing import pull as verb

    push_pull.pulled(out, verb(ref, workspace=workspace, sae=not no_sae))
