"""`push`: an adapter to a remote."""

from pathlib import Path
from typing import Annotated

from typer import Option

from ..config.remotes import PLACES_HELP
from . import options
from .output import Output
from .render import push_pull


def push(
    name: options.Named,
    to: Annotated[str | None, Option("--to", help=f"{PLACES_HELP}; else settings.remote.")] = None,
    public: Annotated[bool, Option("--public", help="Make a new repository public; private by default.")] = False,
    no_sae: options.NoSae = False,
    sae_repo: Annotated[
        str | None, Option("--sae-repo", help="OWNER/NAME: its SAE goes into this repository of the Hub instead.")
    ] = None,
    sign: Annotated[Path | None, Option("--sign", help="Sign it first, with this private key (PEM).")] = None,
    workspace: options.Workspace = None,
    dry_run: options.DryRun = False,
    out: options.Out = Output(),
) -> None:
    """Send an adapter to a folder, the Hub or a container registry."""
    from ..adapter.workspace import Workspace
    from ..config.refs import is_path
    from ..hub.resolve import resolve_adapter
    from ..hub.sharing import push as verb
    from ..hub.sharing import push_with_sae_repo

    choices = {"workspace": workspace, "public": public, "dry_run": dry_run, "sign": sign}
    if sae_repo:
        results = push_with_sae_repo(name, to, sae_repo, **choices)
    else:
        results = (verb(name, to, sae=not no_sae, **choices),)
    push_pull.pushed(out, results, dry_run)
    base = resolve_adapter(name, Workspace.find(workspace)).manifest.base.id
    if is_path(base):
        out.hint(f"warning: its base {base} is a folder of this machine: others name their own by --target")
