"""Adapters of others and for others: push, pull, search."""

from pathlib import Path
from typing import Annotated

from ..config.remotes import PLACES_HELP, SEARCH_HELP, VERSIONS_HELP
from . import options
from .options import Argument, Option
from .output import Output
from .render import shared

NoSae = Annotated[bool, Option("--no-sae", help="Without its SAE, which is often the larger part.")]


def push(
    name: options.Named,
    to: Annotated[str | None, Option("--to", help=f"{PLACES_HELP}; else settings.remote.")] = None,
    public: Annotated[bool, Option("--public", help="Make a new repository public; private by default.")] = False,
    no_sae: NoSae = False,
    sae_repo: Annotated[
        str | None, Option("--sae-repo", help="OWNER/NAME: its SAE goes into this repository of the Hub instead.")
    ] = None,
    sign: Annotated[Path | None, Option("--sign", help="Sign it first, with this private key (PEM).")] = None,
    workspace: options.Workspace = None,
    dry_run: options.DryRun = False,
    out: options.Out = Output(),
) -> None:
    """Send an adapter to a folder, the Hugging Face Hub or a registry."""
    from ..core.errors import Usage
    from ..hub.sharing import push as verb
    from ..hub.sharing import push_with_sae_repo

    choices = {"workspace": workspace, "public": public, "dry_run": dry_run, "sign": sign}
    if sae_repo and no_sae:
        raise Usage("--no-sae and --sae-repo say the opposite of each other", "leave one out")
    if sae_repo:
        results = push_with_sae_repo(name, to, sae_repo, **choices)
    else:
        results = (verb(name, to, sae=not no_sae, **choices),)
    shared.pushed(out, results, dry_run)


def pull(
    ref: Annotated[str, Argument(help=f"{VERSIONS_HELP}.")],
    no_sae: NoSae = False,
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """Fetch an adapter, check every byte, and put it into the store."""
    from ..hub.sharing import pull as verb

    shared.pulled(out, verb(ref, workspace=workspace, sae=not no_sae))


def search(
    text: Annotated[str, Argument(help="Part of the name.")] = "",
    where: Annotated[str, Option("--in", help=f"{SEARCH_HELP}; the whole Hub by default.")] = "hf",
    base: Annotated[str | None, Option("--base", help="Made for this model: a registry name or an id.")] = None,
    tag: Annotated[str | None, Option("--tag", help="Carries this tag, as feature-diff.")] = None,
    verdict: Annotated[str | None, Option("--verdict", help="Its author states this verdict, as transferred.")] = None,
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """Find adapters by base model, tag and verdict."""
    from ..hub.sharing import search as verb

    shared.hits(out, verb(where, base=base, tag=tag, verdict=verdict, text=text, workspace=workspace))
