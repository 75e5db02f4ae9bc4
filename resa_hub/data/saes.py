"""The SAE that stage I starts from: a name of the registry, a Hub repository or a local folder; only the folder of one
hookpoint is fetched.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config.recipe import AUTO, WITH_SAE, Recipe
from ..config.refs import HOOKPOINT, Repo, SaeRef, is_path, layer_of
from ..config.registry import Registry
from ..core.errors import DoesNotFit, Integrity, NotFound, Usage
from ..core.hub_errors import hub_errors
from .snapshots import SAE_CONFIG, SAE_FORMATS, SaeFiles

FOLDER = re.compile(r"(?:model\.)?(layers\.\d{1,4}(?:\.\w+)*|blocks\.\d{1,4}\.hook_\w+)")
"""How the folders of hookpoints are named by sparsify and by SAELens."""
HOOKS = {"resid_post": "", "mlp_out": ".mlp"}
"""TransformerLens' name of a hook -> what follows `layers.N`."""


def starts(recipe: Recipe, registry: Registry) -> dict[str, SaeFiles]:
    """The SAE of `sae.origin` for each hookpoint of the recipe; none for mode scratch and for methods without a stage
    I.

    Raises `Usage` without an origin, `NotFound`, `Network`, and `DoesNotFit` for an SAE of another base, or of another
    hookpoint unless
    `sae.any_hookpoint` is set. Width and content are checked where it is loaded.
    """
    settings = recipe.sae
    if settings.mode == "scratch" or recipe.method not in WITH_SAE:
        return {}
    if not settings.origin:
        raise Usage(
            f"SAE mode {settings.mode} needs an SAE to start from",
            "--set sae.origin=./folder, or --set sae.mode=scratch",
        )
    if AUTO in recipe.all_hookpoints:
        raise Usage(
            f"SAE mode {settings.mode} needs a hookpoint that is settled: its SAE is fetched before anything runs",
            "choose --layer N",
        )
    return {hookpoint: _start(settings.origin, hookpoint, recipe, registry) for hookpoint in recipe.all_hookpoints}


def _start(origin: str, hookpoint: str, recipe: Recipe, registry: Registry) -> SaeFiles:
    entry = registry.entries["saes"].get(origin)
    if entry:
        sae = entry.value
        if sae.base:  # of an imported one it may be unknown
            _check_base(origin, sae.base, recipe, registry)
        said = sae.hookpoints.replace("{N}", str(layer_of(hookpoint)))
        folder = (
            _local(registry.folder_of(entry), [said])
            if is_path(sae.id)
            else _fetch(Repo(sae.id, sae.revision), [said], origin)
        )
    else:
        ref = SaeRef.parse(origin)
        said, places = ref.hookpoint, [ref.hookpoint] if ref.hookpoint else _likely(hookpoint, recipe.sae.any_hookpoint)
        folder = _folder(ref, places, origin)
    try:
        found = _opened(origin, folder, said)
        _check(found, hookpoint, recipe, registry)
    except Integrity as error:
        raise DoesNotFit(
            f"the SAE {origin} is damaged: {error.message}", "fetch it again, or name another SAE"
        ) from None
    return found


def find(origin: str, hookpoint: str | None = None) -> SaeFiles:
    """The SAE of `./folder` or `owner/name[@revision][:subfolder][#hookpoint]` wherever it is wanted for; only that of
    `hookpoint` where one is asked.

    Raises `NotFound`, `Network`, `Integrity`, and `DoesNotFit` where several are to choose from or its own hookpoint is
    another.
    """
    ref = SaeRef.parse(origin)
    said = hookpoint or ref.hookpoint
    return _opened(origin, _folder(ref, [said] if said else [], origin), said)


def _folder(ref: SaeRef, places: list[str], origin: str) -> Path:
    return _local(Path(ref.repo.id).expanduser(), places) if is_path(ref.repo.id) else _fetch(ref.repo, places, origin)


def _opened(origin: str, folder: Path, said: str | None) -> SaeFiles:
    kind = next((kind for name, kind in SAE_FORMATS.items() if (folder / name).is_file()), None)
    if kind is None:
        raise NotFound(f"{folder} holds no SAE", f"it needs {SAE_CONFIG} and one of {', '.join(SAE_FORMATS)}")
    return replace(
        SaeFiles(origin, folder, kind, None), hookpoint=_hookpoint(SaeFiles(origin, folder, kind, None), said)
    )


def _hookpoint(found: SaeFiles, said: str | None) -> str | None:
    """What an SAE was made for: its own metadata and its folder's name count, then what the reference says; raises
    `DoesNotFit` when they disagree.
    """
    own = made_for(found)
    if own and said and own != said and HOOKPOINT.fullmatch(own):
        raise DoesNotFit(
            f"the SAE {found.origin} says that it was made for {own}, not for {said}", "name the SAE of that hookpoint"
        )
    return said or own


def made_for(found: SaeFiles) -> str | None:
    """The hookpoint that an SAE's metadata or, without any, its folder names; a hook that is none of ours comes back as
    it is written.
    """
    metadata = _metadata(found)
    named = [metadata.get("hf_hook_name"), metadata.get("hook_name"), found.folder.name]
    for name in named:
        match = FOLDER.fullmatch(name) if isinstance(name, str) else None
        if match:
            return _ours(match[1])
    return None


def _ours(name: str) -> str:
    """`blocks.5.hook_mlp_out` -> `layers.5.mlp`."""
    match = re.fullmatch(r"blocks\.(\d+)\.hook_(\w+)", name)
    return f"layers.{match[1]}{HOOKS[match[2]]}" if match and match[2] in HOOKS else name


def _spellings(hookpoint: str) -> list[str]:
    """Names under which a repository may keep the folder of a hookpoint."""
    hook = {suffix: name for name, suffix in HOOKS.items()}[".mlp" if hookpoint.endswith(".mlp") else ""]
    return [hookpoint, f"model.{hookpoint}", f"blocks.{layer_of(hookpoint)}.hook_{hook}"]


def _likely(hookpoint: str, any_hookpoint: bool) -> list[str]:
    """The hookpoint, and that of the other kind at the same layer where the recipe allows it."""
    other = hookpoint.removesuffix(".mlp") if hookpoint.endswith(".mlp") else f"{hookpoint}.mlp"
    return [hookpoint, *([other] if any_hookpoint else [])]


def _choose(present: list[str], places: list[str], origin: str) -> str:
    """The folder to take of those that hold an SAE, "" for the top; raises `DoesNotFit` and `NotFound`."""
    if not present:
        raise NotFound(f"{origin} holds no SAE", f"it needs {SAE_CONFIG}, itself or in a folder for each hookpoint")
    for place in places:
        found = next((name for name in _spellings(place) if name in present), None)
        if found:
            return found
    if "" in present:
        return ""
    if not places and len(present) == 1:
        return present[0]
    there = f"{', '.join(present[:6])}{', ...' if len(present) > 6 else ''}"
    if not places:
        raise DoesNotFit(f"{origin} holds the SAEs of {there}", "name one with --hookpoint layers.N")
    raise DoesNotFit(
        f"{origin} has no SAE of {places[0]}, only of {there}",
        "choose another --layer, or --set hookpoint=layers.N.mlp",
    )


def _local(folder: Path, places: list[str]) -> Path:
    if not folder.is_dir():
        raise NotFound(f"the SAE folder {folder} does not exist", "check the path")
    present = (
        [""] if (folder / SAE_CONFIG).is_file() else sorted(path.parent.name for path in folder.glob(f"*/{SAE_CONFIG}"))
    )
    return folder / _choose(present, places, str(folder))


def _fetch(repo: Repo, places: list[str], origin: str) -> Path:
    """Asked first, then fetched by commit; one folder only."""
    from huggingface_hub import HfApi, snapshot_download

    with hub_errors(origin):
        info = HfApi().model_info(repo.id, revision=repo.revision)
        top = f"{repo.subfolder}/" if repo.subfolder else ""
        files = (sibling.rfilename for sibling in info.siblings or [])
        found = (name.removeprefix(top).rpartition("/") for name in files if name.startswith(top))
        place = _choose(sorted(folder for folder, _, name in found if name == SAE_CONFIG), places, origin)
        inside = "/".join(part for part in (repo.subfolder, place) if part)
        wanted = [f"{inside}/{name}".lstrip("/") for name in (SAE_CONFIG, *SAE_FORMATS)]
        folder = snapshot_download(repo.id, revision=info.sha, allow_patterns=wanted)
    return Path(folder) / inside


def _check(found: SaeFiles, hookpoint: str, recipe: Recipe, registry: Registry) -> None:
    if found.hookpoint and found.hookpoint != hookpoint and not recipe.sae.any_hookpoint:
        raise DoesNotFit(
            f"the SAE {found.origin} was made for {found.hookpoint}, not for {hookpoint}",
            "take its hookpoint, or --set sae.any_hookpoint=true as the reference code does: what that costs "
            "is then told",
        )
    if base := base_of(found):
        _check_base(found.origin, base, recipe, registry)


def base_of(found: SaeFiles) -> str:
    """The base that an SAE's metadata names; empty without any."""
    base = _metadata(found).get("model_name")
    return base if isinstance(base, str) else ""


def same_base(one: str, other: str, registry: Registry) -> bool:
    """As `_check_base` compares them."""
    return _short(one, registry) == _short(other, registry)


def _metadata(found: SaeFiles) -> dict[str, Any]:
    metadata = found.config.get("metadata") if isinstance(found.config, dict) else None
    return metadata if isinstance(metadata, dict) else {}


def _check_base(origin: str, base: str, recipe: Recipe, registry: Registry) -> None:
    """Bases are compared by the last part of their id: TransformerLens and local copies leave the owner out."""
    ours = {_short(name, registry) for name in (recipe.source, recipe.target)}
    if _short(base, registry) not in ours:
        raise DoesNotFit(
            f"the SAE {origin} was made for {base}, not for {recipe.source}",
            "choose a source of that lineage, or another SAE",
        )


def _short(name: str, registry: Registry) -> str:
    base = registry.base_name(name)
    known = registry.model_entry(base)
    return ((known.id if known else None) or base).rstrip("/").rpartition("/")[2].lower()
