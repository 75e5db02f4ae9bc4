"""A verb: `resa-hub hello NAME`."""

from typing import Annotated

from typer import Argument

from resa_hub.cli import options
from resa_hub.cli.output import Output


def hello(
    name: Annotated[str, Argument(help="Whom to greet.")],
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """Greet somebody."""
    if not out.data({"greeted": name}, name):
        out.text(f"hello {name}")
