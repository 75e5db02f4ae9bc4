"""The SAE that stage I starts from: a name of the registry, a Hub repository or a local folder.

Only the folder of one hookpoint is fetched.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ..config.methods import METHODS
from ..config.recipe import AUTO, Recipe
from ..config.refs import HOOKPOINT, Repo, SaeRef, is_path, layer_of
from ..config.registry import Registry
from ..core.errors import DoesNotFit, Integrity, NotFound, Usage
from ..core.hub_errors import hub_errors
from .snapshots import SAE_CONFIG, SAE_FORMATS, SaeFiles

FOLDER = re.compile(r"(?:model\.)?(layers\.\d{1,4}(?:\.\w+)*|blocks\.\d{1,4}\.hook_\w+)")
"""How the folders of hookpoints are named by sparsify and by SAELens."""
HOOKS = {"resid_post": "", "mlp_out": ".mlp"}
"""TransformerLens' name of a hook -> what follows `layers.N`."""


class BeforeFetching(NamedTuple):
    """What is known of the SAEs that stage I starts from while they are not fetched."""

    latents: tuple[int, ...] = ()
    """Of each, where the registry or a local config.json tells it."""
    to_fetch: bool = False


def check_before_fetching(recipe: Recipe, registry: Registry) -> BeforeFetching:
    """Raises as `initial_saes`, as far as names, the registry and local folders tell."""
    origin = _origin(recipe)
    if not origin:
        return BeforeFetching()
    entry = registry.entries["saes"].get(origin)
    where = entry.value.id if entry else SaeRef.parse(origin).repo.id
    if is_path(where):
        found = initial_saes(recipe, registry).values()
        return BeforeFetching(tuple(count for sae in found if (count := _latents(sae.config))))
    if entry is None:
        return BeforeFetching(to_fetch=True)
    _check_base(origin, entry.value.base, recipe, registry)
    for hookpoint in recipe.all_hookpoints:
        _check_hookpoint(origin, entry.value.hookpoints.replace("{N}", str(layer_of(hookpoint))), hookpoint, recipe)
    return BeforeFetching((entry.value.latents,), to_fetch=True)


def _latents(config: Any) -> int | None:
    """By the config of SAELens or of sparsify."""
    counts = (config.get(key) for key in ("d_sae", "num_latents")) if isinstance(config, dict) else ()
    return next((count for count in counts if isinstance(count, int) and count > 0), None)


def initial_saes(recipe: Recipe, registry: Registry) -> dict[str, SaeFiles]:
    """The SAE of `sae.origin` for each hookpoint; none for mode scratch and for methods without a stage I.

    Raises `Usage` without an origin, `NotFound`, `Network`, and `DoesNotFit` for an SAE of another base, or of another
    hookpoint unless `sae.any_hookpoint` is set. Width and content are checked where it is loaded.
    """
    origin = _origin(recipe)
    if not origin:
        return {}
    return {hookpoint: _initial_sae(origin, hookpoint, recipe, registry) for hookpoint in recipe.all_hookpoints}


def _origin(recipe: Recipe) -> str:
    """Where the SAE comes from; empty for mode scratch and for methods without a stage I. Raises `Usage`."""
    settings = recipe.sae
    if settings.mode == "scratch" or not METHODS[recipe.method].sae:
        return ""
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
    return settings.origin


def _initial_sae(origin: str, hookpoint: str, recipe: Recipe, registry: Registry) -> SaeFiles:
    entry = registry.entries["saes"].get(origin)
    if entry:
        sae = entry.value
        if sae.base:  # of an imported one it may be unknown
            _check_base(origin, sae.base, recipe, registry)
        stated = sae.hookpoints.replace("{N}", str(layer_of(hookpoint)))
        if is_path(sae.id):
            folder = _local(registry.folder_of(entry), [stated])
        else:
            folder = _fetch(Repo(sae.id, sae.revision), [stated], origin)
    else:
        ref = SaeRef.parse(origin)
        stated = ref.hookpoint
        folder = _folder(ref, [stated] if stated else _likely(hookpoint, recipe.sae.any_hookpoint), origin)
    try:
        sae_files = _open(origin, folder, stated)
        _check(sae_files, hookpoint, recipe, registry)
    except Integrity as error:
        raise DoesNotFit(
            f"the SAE {origin} is damaged: {error.message}", "fetch it again, or name another SAE"
        ) from None
    return sae_files


def locate(origin: str, hookpoint: str | None = None) -> SaeFiles:
    """The SAE of `./folder` or `owner/name[@revision][:subfolder][#hookpoint]`, fetched where it is not local.

    hookpoint: the one to take; None takes the one that the origin names, or the only one there. Raises `NotFound`,
    `Network`, `Integrity`, and `DoesNotFit` where several are to choose from or its own hookpoint is another.
    """
    ref = SaeRef.parse(origin)
    stated = hookpoint or ref.hookpoint
    return _open(origin, _folder(ref, [stated] if stated else [], origin), stated)


def _folder(ref: SaeRef, hookpoints: list[str], origin: str) -> Path:
    """The folder of the first of these hookpoints; as `_choose` takes one of those that are there."""
    if is_path(ref.repo.id):
        return _local(Path(ref.repo.id).expanduser(), hookpoints)
    return _fetch(ref.repo, hookpoints, origin)


def _open(origin: str, folder: Path, stated: str | None) -> SaeFiles:
    """The SAE in a folder. stated: the hookpoint that a reference or the registry gives it."""
    format_ = next((format_ for name, format_ in SAE_FORMATS.items() if (folder / name).is_file()), None)
    if format_ is None:
        raise NotFound(f"{folder} holds no SAE", f"it needs {SAE_CONFIG} and one of {', '.join(SAE_FORMATS)}")
    sae = SaeFiles(origin, folder, format_, None)
    return replace(sae, hookpoint=_hookpoint(sae, stated))


def _hookpoint(sae: SaeFiles, stated: str | None) -> str | None:
    """What an SAE was made for: its metadata and its folder's name count, then what the reference states.

    Raises `DoesNotFit` when they disagree.
    """
    recorded = made_for(sae)
    if recorded and stated and recorded != stated and HOOKPOINT.fullmatch(recorded):
        raise DoesNotFit(
            f"the SAE {sae.origin} says that it was made for {recorded}, not for {stated}",
            "name the SAE of that hookpoint",
        )
    return stated or recorded


def made_for(sae: SaeFiles) -> str | None:
    """The hookpoint that an SAE's metadata or, without any, its folder names.

    A hook that has no hookpoint here comes back as it is written.
    """
    metadata = _metadata(sae)
    for name in (metadata.get("hf_hook_name"), metadata.get("hook_name"), sae.folder.name):
        match = FOLDER.fullmatch(name) if isinstance(name, str) else None
        if match:
            return _as_hookpoint(match[1])
    return None


def _as_hookpoint(name: str) -> str:
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


def _choose(present: list[str], hookpoints: list[str], origin: str) -> str:
    """The folder to take of those that hold an SAE, "" for the top.

    It is that of the first hookpoint that is there; without hookpoints the only one. Raises `DoesNotFit`, `NotFound`.
    """
    if not present:
        raise NotFound(f"{origin} holds no SAE", f"it needs {SAE_CONFIG}, itself or in a folder for each hookpoint")
    for hookpoint in hookpoints:
        folder = next((name for name in _spellings(hookpoint) if name in present), None)
        if folder:
            return folder
    if "" in present:
        return ""
    if not hookpoints and len(present) == 1:
        return present[0]
    listed = f"{', '.join(present[:6])}{', ...' if len(present) > 6 else ''}"
    if not hookpoints:
        raise DoesNotFit(f"{origin} holds the SAEs of {listed}", "name one with --hookpoint layers.N")
    raise DoesNotFit(
        f"{origin} has no SAE of {hookpoints[0]}, only of {listed}",
        "choose another --layer, or --set hookpoint=layers.N.mlp",
    )


def _local(folder: Path, hookpoints: list[str]) -> Path:
    if not folder.is_dir():
        raise NotFound(f"the SAE folder {folder} does not exist", "check the path")
    present = [""]
    if not (folder / SAE_CONFIG).is_file():
        present = sorted(path.parent.name for path in folder.glob(f"*/{SAE_CONFIG}"))
    return folder / _choose(present, hookpoints, str(folder))


def _fetch(repo: Repo, hookpoints: list[str], origin: str) -> Path:
    """One folder of a Hub repository: its listing is asked for first, then the files of that commit are fetched."""
    from huggingface_hub import HfApi, snapshot_download

    with hub_errors(origin):
        info = HfApi().model_info(repo.id, revision=repo.revision)
        top = f"{repo.subfolder}/" if repo.subfolder else ""
        files = (sibling.rfilename for sibling in info.siblings or [])
        paths = (name.removeprefix(top).rpartition("/") for name in files if name.startswith(top))
        present = sorted(folder for folder, _, name in paths if name == SAE_CONFIG)
        inside = "/".join(part for part in (repo.subfolder, _choose(present, hookpoints, origin)) if part)
        wanted = [f"{inside}/{name}".lstrip("/") for name in (SAE_CONFIG, *SAE_FORMATS)]
        folder = snapshot_download(repo.id, revision=info.sha, allow_patterns=wanted)
    return Path(folder) / inside


def _check(sae: SaeFiles, hookpoint: str, recipe: Recipe, registry: Registry) -> None:
    """Raise `DoesNotFit` unless the SAE is of this hookpoint and of the recipe's base."""
    _check_hookpoint(sae.origin, sae.hookpoint, hookpoint, recipe)
    base = base_of(sae)
    if base:
        _check_base(sae.origin, base, recipe, registry)


def _check_hookpoint(origin: str, made_for: str | None, hookpoint: str, recipe: Recipe) -> None:
    if made_for and made_for != hookpoint and not recipe.sae.any_hookpoint:
        raise DoesNotFit(
            f"the SAE {origin} was made for {made_for}, not for {hookpoint}",
            "take its hookpoint, or --set sae.any_hookpoint=true as the reference code does: what that costs "
            "is then told",
        )


def base_of(sae: SaeFiles) -> str:
    """The base that an SAE's metadata names; empty without any."""
    base = _metadata(sae).get("model_name")
    return base if isinstance(base, str) else ""


def same_base(one: str, other: str, registry: Registry) -> bool:
    """Whether two names mean one base, as `_check_base` compares them."""
    return _short(one, registry) == _short(other, registry)


def _metadata(sae: SaeFiles) -> dict[str, Any]:
    metadata = sae.config.get("metadata") if isinstance(sae.config, dict) else None
    return metadata if isinstance(metadata, dict) else {}


def _check_base(origin: str, base: str, recipe: Recipe, registry: Registry) -> None:
    """Bases are compared by the last part of their id: TransformerLens and local copies leave the owner out."""
    if _short(base, registry) not in {_short(name, registry) for name in (recipe.source, recipe.target)}:
        raise DoesNotFit(
            f"the SAE {origin} was made for {base}, not for {recipe.source}",
            "choose a source of that lineage, or another SAE",
        )


def _short(name: str, registry: Registry) -> str:
    """The last part of the id of the base that a model stands on."""
    base = registry.base_name(name)
    entry = registry.model_entry(base)
    return ((entry.id if entry else None) or base).rstrip("/").rpartition("/")[2].lower()
