"""`verify`: every byte of an adapter, and with `--deep` its effect on the model."""

import re
from collections.abc import Sequence
from pathlib import Path

from ..adapter.fit import read_lora
from ..adapter.store import Adapter, lacks_sae
from ..adapter.verify import verify_folder
from ..adapter.workspace import Workspace
from ..config.refs import is_path
from ..core.errors import Integrity
from ..hub import signing


def check_adapter(
    adapter: Adapter, workspace: Workspace, *, deep: bool = False, keys: Sequence[Path] = ()
) -> list[str]:
    """Check every byte against the manifest, and the signature where keys are given; returns what else can be said.

    deep: load it on its own base, where its effect must be the recorded one, and its SAE by SAELens; a base that is a
    local folder of another machine is a remark. Raises
    `Integrity`, `NoEffect`, and `NotFound` or `Network` where the base is not to be had.
    """
    manifest = verify_folder(adapter.folder)
    read_lora(adapter.folder)
    remarks = []
    if lacks_sae(adapter):
        remarks.append("without its SAE")
    if keys:
        remarks.append(f"signed by {signing.check(adapter.folder, keys, manifest.reference)}")
    if deep:
        remarks += _check_loaded(adapter, workspace)
    return remarks


def _check_loaded(adapter: Adapter, workspace: Workspace) -> list[str]:
    from ..engine.sae.formats import check_readable
    from .attach import attach

    reference, base = adapter.manifest.reference, adapter.manifest.base
    if is_path(base.id) and not Path(base.id).is_dir():  # made elsewhere: its bytes are right all the same
        return [f"effect not checked: its base {base.id} is not here"]
    revision = f"@{base.revision}" if re.fullmatch(r"[0-9a-f]{40}", base.revision) else ""
    attached = attach(reference, target=base.id + revision, workspace=workspace.folder)
    if base.weights and attached.fit.level != "exact":
        raise Integrity(
            f"{base.id} is not the base that {reference} was made on: {attached.fit.reason}",
            "name the right revision in the registry",
        )
    saes = [path.parent for path in sorted(adapter.folder.glob("sae/*/cfg.json"))]
    for folder in saes:
        check_readable(folder)
    return [f"KL {attached.proof.kl:.4g} on its base", *(f"SAE {folder.name} loads" for folder in saes)]
