"""`search`: adapters at a remote."""

from typing import Annotated

from typer import Argument, Option

from ..config.remotes import SEARCH_HELP
from . import complete, options
from .output import Output
from .render import push_pull


def search(
    text: Annotated[str, Argument(help="Part of the name.")] = "",
    where: Annotated[str, Option("--in", help=f"{SEARCH_HELP}; the whole Hub by default.")] = "hf",
    base: Annotated[
        str | None,
        Option("--base", help="Made for this model: a registry name or an id.", autocompletion=complete.models),
    ] = None,
    tag: Annotated[str | None, Option("--tag", help="Carries this tag, as feature-diff.")] = None,
    verdict: Annotated[str | None, Option("--verdict", help="Its author states this verdict, as transferred.")] = None,
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """Find adapters by base model, tag and verdict."""
    from ..hub.sharing import search as verb

    push_pull.hits(out, verb(where, base=base, tag=tag, verdict=verdict, text=text, workspace=workspace))
