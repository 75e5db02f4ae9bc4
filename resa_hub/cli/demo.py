from pathlib import Path
from typing import Annotated

import typer

from . import options


def demo(
    workspace: Annotated[Path | None, typer.Option("--workspace", help="Folder to work in; ./resa-hub-demo by default.", show_default=False)] = None,
    debug: options.Debug = False,
) -> None:
    """The whole hub in two minutes, on the embedded models."""
    from .. import demo as verb

    verb.run(workspace or Path("resa-hub-demo"))
