"""What can be known of an extraction before anything is fetched or loaded: a dry run and the run ask the same."""

import contextlib
from pathlib import Path
from typing import Any

from ..adapter import weight_fingerprint
from ..adapter.fit import DISTANT_CORRELATION, assess_fit, read_lora, require_fit
from ..adapter.workspace import Workspace
from ..config import refs
from ..config.methods import METHODS
from ..config.recipe import ALL_LINEAR, AUTO, Data, LoraSettings, Recipe, Screen
from ..config.refs import ModelRef
from ..config.schema import Dataset
from ..core.errors import DoesNotFit, Integrity, NoEffect, NotFound, Usage
from ..core.tensors import safetensors_header
from ..data import architectures, datasets, saes
from ..data.at_hand import at_hand, dataset_at_hand
from ..data.own_models import model_config
from ..data.snapshots import Files, Rows
from .plan import Plan
from .recipe_checks import check_directions, check_features, checked

Config = dict[str, Any]


def check(plan: Plan, workspace: Workspace) -> list[str]:
    """What is left to be checked when it is fetched. Nothing but config.json of a model that nobody described is
    fetched here.

    Raises `Usage`, `NotFound`, `DoesNotFit` and `NoEffect` for a plan that cannot be run.
    """
    recipe, registry = checked(plan.recipe), workspace.registry
    method = METHODS[recipe.method]
    target = model_config(plan.target, recipe.target, registry)
    source = model_config(plan.source, recipe.source, registry)
    for name, config in ((recipe.source, source), (recipe.target, target)):
        architectures.check(config, name)
    check_shapes(recipe.source, source, recipe.target, target)
    check_layers(recipe, target)
    if method.trains_on == "rollouts" and plan.source == plan.target:
        raise NoEffect(
            f"{recipe.source} is source and target at once: there is nothing that {recipe.method} could learn",
            "name another --source or --target",
        )
    left = _check_models(plan, source)
    left += _check_sae(recipe, workspace)
    _check_reference(plan, workspace)
    return left + _check_data(plan)


def check_shapes(name: str, theirs: Config, target_name: str, ours: Config) -> None:
    """Raise `DoesNotFit` unless the configurations of two models say the same sizes, for states are compared entry by
    entry.
    """
    ours, theirs = weight_fingerprint.shapes(ours), weight_fingerprint.shapes(theirs)
    different = [key for key in theirs if key != "vocab_size" and key in ours and ours[key] != theirs[key]]
    if different:
        key = different[0]
        raise DoesNotFit(
            f"{name} and {target_name} have other shapes: {key} {theirs[key]} and {ours[key]}",
            "choose models of one family and size",
        )


def check_layers(recipe: Recipe, config: Config) -> None:
    """Raise `Usage` for a hookpoint that the target does not have, that leaves nothing to tune, and for numbers larger
    than its states.
    """
    sizes, method = weight_fingerprint.shapes(config), METHODS[recipe.method]
    layers, width = sizes.get("num_hidden_layers"), sizes.get("hidden_size")
    places = [refs.layer_of(at) for at in recipe.all_hookpoints if at != AUTO]
    places += recipe.screen.layers if recipe.screen else ()
    if isinstance(layers, int) and not method.supervised and (deepest := max(places, default=0)) >= layers:
        raise Usage(
            f"layers.{deepest} does not exist: {recipe.target} has {layers} layers",
            f"choose layers.0 to layers.{layers - 1}",
        )
    if isinstance(layers, int) and method.splices and recipe.hookpoint == f"layers.{layers - 1}":
        raise Usage(
            f"no layer lies behind {recipe.hookpoint}: there is nothing to tune",
            f"choose a layer up to {layers - 2}",
        )
    if isinstance(width, int):
        check_directions(recipe, width)
        if recipe.lora.rank > width:
            raise Usage(
                f"lora.rank is {recipe.lora.rank:,}, but the states of {recipe.target} have {width:,} entries",
                f"--set lora.rank=32, or another up to {width:,}",
            )


def check_sibling(name: str, files: Files, target_name: str, target: Files) -> None:
    """Raise `DoesNotFit` unless a sibling shares sizes and weights with the target."""
    check_shapes(name, files.config, target_name, target.config)
    r = weight_fingerprint.correlation(weight_fingerprint.sketch(target.weights), files.weights)
    if r < DISTANT_CORRELATION:
        raise DoesNotFit(
            f"{name} is no sibling of {target_name}: unrelated weights (correlation {r:.3f})",
            "name models of the target's close lineage",
        )


def _check_models(plan: Plan, source: Config) -> list[str]:
    """Weights, modules and adapters that are here."""
    recipe = plan.recipe
    models = {recipe.source: plan.source, recipe.target: plan.target, **plan.siblings}
    here = {name: _weights_here(ref) for name, ref in models.items()}
    left = [f"the weights of {name}" for name, files in here.items() if files is None]
    target = here[recipe.target]
    if target:
        _check_modules(recipe, target)
    for name in plan.siblings:
        files = here[name]
        if target and files:
            check_sibling(name, files, recipe.target, target)
    for name, ref in models.items():
        adapter = at_hand(ref.adapter, "adapter") if ref.adapter else None
        base = here[name]
        if ref.adapter and adapter is None:
            left.append(f"the adapter of {name}, and whether it fits its base")
        elif adapter and base:
            _check_adapter(adapter, base)
    return left


def _check_adapter(adapter: Files, base: Files) -> None:
    """Raise `DoesNotFit` for other sizes. What PEFT loads may be more than what we attach: it is not judged here."""
    with contextlib.suppress(Integrity, NoEffect):
        lora = read_lora(adapter.folder)
        require_fit(assess_fit(None, lora, base), adapter.id, base.id)


def _weights_here(ref: ModelRef) -> Files | None:
    """Raises `NotFound` for a folder without weights."""
    files = at_hand(ref.base)
    return files if files and files.weights else None


def _check_modules(recipe: Recipe, target: Files) -> None:
    """Raise `DoesNotFit` for a module of the LoRA that no layer of the target has."""
    wanted = recipe.lora.modules
    everything = wanted == (ALL_LINEAR,) or set(wanted) == set(LoraSettings().modules)
    if everything or METHODS[recipe.method].trains_on is None:
        return
    tensors = [name for path in target.weights for name in safetensors_header(path.resolve())]
    paths = [name.removesuffix(".weight") for name in tensors if ".layers." in name and name.endswith(".weight")]
    absent = [name for name in wanted if not any(path.endswith(f".{name}") for path in paths)]
    if paths and absent:
        raise DoesNotFit(
            f"no linear module of {recipe.target} is called {absent[0]}",
            f"--set 'lora.modules=[q_proj, v_proj]', or lora.modules=[{ALL_LINEAR}]",
        )


def _check_sae(recipe: Recipe, workspace: Workspace) -> list[str]:
    """The SAE that stage I starts from, and whether it has as many features as are asked for."""
    found = saes.check_before_fetching(recipe, workspace.registry)
    for latents in found.latents:
        check_features(recipe, latents)
    return [f"the SAE {recipe.sae.origin}"] if found.to_fetch else []


def _check_reference(plan: Plan, workspace: Workspace) -> None:
    """The adapter whose norm a random one takes."""
    recipe = plan.recipe
    if METHODS[recipe.method].trains_on is not None:
        return
    if recipe.norm_of is None:
        if recipe.norm is None and plan.source.adapter is None:
            raise Usage(
                "nothing says how large the random adapter is",
                "--set norm_of=NAME@VERSION, a folder, or --set norm=0.5",
            )
    elif refs.is_path(recipe.norm_of):
        if not Path(recipe.norm_of).expanduser().is_dir():
            raise NotFound(f"no such folder {recipe.norm_of}", "check the path of the adapter")
    else:
        workspace.named.get(refs.AdapterRef.parse(recipe.norm_of))


def _check_data(plan: Plan) -> list[str]:
    """Columns and rows of what is here; enough of them for the screen."""
    recipe, left = plan.recipe, []
    roles = {recipe.trigger: plan.trigger, recipe.elicit: plan.elicit}
    for data, entry in roles.items():
        rows = local_rows(data, entry)
        if rows is None and not dataset_at_hand(entry.id):
            left.append(f"the columns and rows of {data.name}")
        if rows is not None and data == recipe.elicit:
            _check_screen(recipe, len(rows.pairs))
    return left


def local_rows(data: Data, entry: Dataset) -> Rows | None:
    """The rows of a generated data set or a local file; None for one of the Hub. Raises as `datasets.load`."""
    if entry.id == datasets.TINY or datasets.is_local(entry):
        return datasets.load(data, entry)
    return None


def _check_screen(recipe: Recipe, rows: int) -> None:
    """The screen needs questions that training does not use."""
    screen = recipe.screen or (Screen() if recipe.hookpoint == AUTO else None)
    if screen is None:
        return
    left = rows - min(rows, recipe.rollouts.count if recipe.rollouts else rows)
    if left < screen.rollouts:
        raise Usage(
            f"{screen.rollouts} development rollouts are asked, but the elicitation data holds only {left} "
            "questions that training does not use",
            "raise elicit.rows, or lower rollouts.count or screen.rollouts",
        )
