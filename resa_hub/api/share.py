"""Sharing: `push`, `search`."""

import os

from ..adapter.workspace import WorkspaceLike
from ..core.errors import Usage
from ..core.notebook import Listing
from ..hub import sharing
from ..hub.remote import PushResult, SearchHit
from .choices import AdapterLike, reference


def push(
    name: AdapterLike,
    to: str | None = None,
    *,
    public: bool = False,
    sae: bool = True,
    sae_repo: str | None = None,
    sign: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
    workspace: WorkspaceLike = None,
) -> PushResult:
    """Send an adapter to a folder, the Hugging Face Hub or a container registry, checked before anything leaves.

    to: None takes the setting `remote` of the registry. public: make a new repository public. sae: False leaves its
    SAE at home. sae_repo: OWNER/NAME of the Hub, into which the SAE goes instead. sign: a private key (PEM) to sign it
    with first. dry_run: only say what would be sent. Raises `NotFound`, `Usage`, `Integrity`, `Conflict` when the
    version exists there with other bytes, `Network`, `RunFailed`.
    """
    run = {"workspace": workspace, "public": public, "dry_run": dry_run, "sign": sign}
    if sae_repo is None:
        return sharing.push(reference(name), to, sae=sae, **run)
    if not sae:
        raise Usage("sae=False and sae_repo say the opposite of each other", "leave one out")
    adapter, apart = sharing.push_with_sae_repo(reference(name), to, sae_repo, **run)
    return adapter._replace(sae=apart)


def search(
    text: str = "",
    *,
    where: str = "hf",
    base: str | None = None,
    tag: str | None = None,
    verdict: str | None = None,
    workspace: WorkspaceLike = None,
) -> Listing[SearchHit]:
    """Find adapters at a remote, by part of the name, base model, tag and verdict.

    where: `hf`, the whole Hub, or a place as `folder:PATH`. What is found is what authors say: `pull` checks the
    bytes, `evaluate` the claims. Raises `NotFound`, `Network`.
    """
    return Listing(sharing.search(where, base=base, tag=tag, verdict=verdict, text=text, workspace=workspace))
