"""`verify`: every byte of an adapter, and with `--deep` its effect on the model."""

import re
from collections.abc import Sequence
from pathlib import Path

from ..adapter import fit
from ..adapter.store import Adapter, lacks_sae
from ..adapter.verify import verify
from ..adapter.workspace import Workspace
from ..core.errors import Integrity
from ..hub import signing


def check(adapter: Adapter, workspace: Workspace, *, deep: bool = False, keys: Sequence[Path] = ()) -> list[str]:
    """Every byte against the manifest, the signature where keys are given; deep: also loaded on its own base, where its
    effect must be the recorded one, and its SAE by SAELens. Returns what else can be said. Raises `Integrity`,
    `NoEffect`, and `NotFound` or `Network` where the base is not to be had.
    """
    m, said = verify(adapter.folder), []
    fit.read_lora(adapter.folder)
    if lacks_sae(adapter):
        said.append("without its SAE")
    if keys:
        said.append(f"signed by {signing.check(adapter.folder, keys, m.reference)}")
    if deep:
        said += _deep(adapter, workspace)
    return said


def _deep(adapter: Adapter, workspace: Workspace) -> list[str]:
    from ..engine.sae.files import check_readable
    from .attach import attach

    m = adapter.manifest
    revision = f"@{m.base.revision}" if re.fullmatch(r"[0-9a-f]{40}", m.base.revision) else ""
    done = attach(m.reference, target=m.base.id + revision, workspace=workspace.folder)
    if m.base.weights and done.fit.level != "exact":
        raise Integrity(
            f"{m.base.id} is not the base that {m.reference} was made on: {done.fit.reason}",
            "name the right revision in the registry",
        )
    saes = [path.parent for path in sorted(adapter.folder.glob("sae/*/cfg.json"))]
    for folder in saes:
        check_readable(folder)
    return [f"KL {done.proof.kl:.4g} on its base", *[f"SAE {folder.name} loads" for folder in saes]]
