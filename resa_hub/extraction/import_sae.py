"""SAEs that were made elsewhere come into a workspace: read in either format, checked, kept in SAELens format, named in
its registry.yaml.
"""

import os
import re
import secrets
import shutil
from pathlib import Path
from typing import NamedTuple

from ..adapter.workspace import Workspace, WorkspaceLike
from ..config.refs import HOOKPOINT, SaeRef, check_hookpoint, check_name, is_path, layer_of
from ..config.registry import Registry
from ..config.registry_file import minimal_entry, update_registry, workspace_registry
from ..config.schema import Sae
from ..core.errors import Conflict, DoesNotFit, HubError, Integrity, RunFailed, Usage
from ..core.tensors import read_tensor, safetensors_header
from ..data import saes, tiny
from ..data.snapshots import SAE_FORMATS, SaeFiles, locate

FOLDER = "saes"


class Taken(NamedTuple):
    name: str
    """What `sae.origin` takes from now on."""
    hookpoint: str
    folder: Path
    base: str
    """Empty where it is not known."""
    latents: int
    k: int
    format: str
    """The one that it came in."""
    missing: str
    """What could not be checked; empty when all was."""
    new: bool


def import_sae(
    origin: str,
    *,
    name: str | None = None,
    base: str | None = None,
    hookpoint: str | None = None,
    workspace: WorkspaceLike = None,
) -> Taken:
    """Take the SAE of one hookpoint (sparsify's or SAELens' format) into `saes/NAME/HOOKPOINT/` and name it in the
    workspace's registry.yaml.

    origin: `./folder` or `owner/name[@revision][:subfolder]`. base: the model it was made on, hookpoint: where; its
    metadata or folder says so otherwise. A name may hold several hookpoints of one kind. Raises `NotFound`, `Network`,
    `Integrity` for damaged files, `DoesNotFit` for another width, layer, base or hookpoint and for what is no plain
    TopK SAE, `Usage` where nothing says the hookpoint, `Conflict` for a name that means something else.
    """
    workspace = Workspace.find(workspace)
    found = saes.locate(origin, check_hookpoint(hookpoint) if hookpoint else None)
    at = _hookpoint(found)
    name = check_name(name or _name(origin))
    _check_weights(found)
    base, width, missing = _base(base, found, at, workspace.registry)
    target = workspace.folder / FOLDER / name / at
    staged = target.parent.with_name(f".{name}.{secrets.token_hex(8)}")
    try:
        from ..engine.sae.formats import to_saelens

        latents, k = to_saelens(found, width, at, staged, base)
        pattern = at.replace(str(layer_of(at)), "{N}")
        entry = Sae(id=f"./{FOLDER}/{name}", format="saelens", base=base, hookpoints=pattern, latents=latents, k=k)
        note = f"imported from {origin}, {found.digest[:19]}"
        new = _keep(staged, target, name, entry, note, workspace)
    except OSError as error:
        problem = f"cannot write into {workspace.folder}: {error.strerror}"
        raise RunFailed(problem, "check the permissions and the free space") from None
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return Taken(name, at, target, base, latents, k, found.format, missing, new)


def _keep(staged: Path, target: Path, name: str, fresh: Sae, note: str, workspace: Workspace) -> bool:
    """Move the SAE in and name it in registry.yaml; whether it was not there before. Raises `Conflict`."""
    with workspace.store.lock():
        # Read under the lock: another import may have named the same meanwhile.
        entry = _entry(Workspace(workspace.folder).registry, name, note, fresh)
        new = not target.exists()
        if new:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(staged, target)
        elif _digest(target) != _digest(staged):
            raise Conflict(f"{name} has another SAE of {target.name} already", "choose another --name")
        path = workspace_registry(workspace)
        update_registry(path, {"saes": {name: minimal_entry(entry)}}, "registry.yaml.before-import")
    return new


def _hookpoint(found: SaeFiles) -> str:
    if not found.hookpoint:
        raise Usage(
            f"nothing says which hookpoint {found.origin} was made for", "add --hookpoint layers.N (or layers.N.mlp)"
        )
    if not HOOKPOINT.fullmatch(found.hookpoint):
        raise DoesNotFit(
            f"the SAE {found.origin} was made for {found.hookpoint}, where none is used here",
            "take one of layers.N or layers.N.mlp",
        )
    return found.hookpoint


def _name(origin: str) -> str:
    """The last part of the origin that is not the folder of a hookpoint."""
    repo = SaeRef.parse(origin).repo
    parts = f"{repo.id}/{repo.subfolder or ''}".split("/")
    last = next((part for part in reversed(parts) if part.strip("./~") and not saes.FOLDER.fullmatch(part)), "")
    return re.sub(r"[^a-z0-9._-]", "-", last.lower()).strip("._-") or "imported"


def _check_weights(found: SaeFiles) -> None:
    """A sound header and finite numbers, before any library reads the file; raises `Integrity`."""
    import numpy

    path = (found.folder / next(name for name, kind in SAE_FORMATS.items() if kind == found.format)).resolve()
    for tensor, info in safetensors_header(path).items():
        if not numpy.isfinite(read_tensor(path, info)[...]).all():
            raise Integrity(
                f"tensor {tensor!r} of {found.origin} holds NaN or infinite values",
                "fetch it again, or name another SAE",
            )


def _base(named: str | None, found: SaeFiles, hookpoint: str, registry: Registry) -> tuple[str, int | None, str]:
    """The base's name, its width where its sizes are at hand, and what is not known."""
    recorded = saes.base_of(found)
    if named and recorded and not saes.same_base(named, recorded, registry):
        raise DoesNotFit(
            f"the SAE {found.origin} says that it was made for {recorded}, not for {named}",
            "leave --base out, or name another SAE",
        )
    if not (named or recorded):
        return "", None, "its base is not named (--base MODEL): whether it fits is seen when it is used"
    name = registry.name_of_base(named or recorded)
    try:
        config = _sizes(registry.base_name(name), registry)
    except HubError:
        if named:
            raise
        config = {}
    width, layers = config.get("hidden_size"), config.get("num_hidden_layers")
    if isinstance(layers, int) and layer_of(hookpoint) >= layers:
        raise DoesNotFit(
            f"{name} has the layers 0 to {layers - 1}: {hookpoint} is none of it", "name another --hookpoint or --base"
        )
    if not isinstance(width, int):
        return name, None, f"its base {name} is not at hand: whether its width fits is seen when it is used"
    return name, width, ""


def _sizes(base: str, registry: Registry) -> dict:
    """Sizes that the registry or a config.json on this machine tells: weights are not fetched for two numbers."""
    entry = registry.model_entry(base)
    if entry and entry.config:
        return entry.config
    repo = registry.model(base).base
    return locate(repo).config if is_path(repo.id) or repo.id.startswith(tiny.PREFIX) else {}


def _entry(registry: Registry, name: str, note: str, fresh: Sae) -> Sae:
    """The entry as it shall stand, its note told of every import; raises `Conflict` where the name means another
    SAE.
    """
    import msgspec

    known = registry.entries["saes"].get(name)
    if known is None:
        return msgspec.structs.replace(fresh, note=note)
    told = msgspec.structs.replace(known.value, note="")
    if known.layer != "workspace" or told != fresh:
        differs = [f for f in Sae.__struct_fields__ if getattr(told, f) != getattr(fresh, f)]
        raise Conflict(
            f"the registry has another SAE {name} ({known.layer}; {', '.join(differs) or 'the same'})",
            "choose another --name",
        )
    return (
        known.value
        if note in known.value.note
        else msgspec.structs.replace(fresh, note=f"{known.value.note}; {note}".strip("; "))
    )


def _digest(folder: Path) -> str:
    return SaeFiles("", folder, "saelens", None).digest
