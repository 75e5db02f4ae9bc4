"""The plan of an extraction: everything that registry and caller say, resolved, before anything heavy is loaded."""

import math
from dataclasses import dataclass, field
from typing import Any

from ..config.methods import METHODS
from ..config.recipe import AUTO, Recipe, Rollouts, Screen, override
from ..config.refs import ModelRef, check_name
from ..config.registry import NEEDED, Registry, deep_merge
from ..config.schema import Dataset
from ..core.errors import Usage, did_you_mean
from ..core.strict import structure
from ..data.own_models import on_its_base
from .base_recipe import base_recipe
from .names import default_name
from .recipe_checks import checked
from .used_settings import check_used

SELECTIONS = {"mean": "mean difference", "attribution": "attribution", "logits": "what they do to the logits"}
SCREENED_FEATURES, SCREENED_SCALES = [4, 16, 64], [1.0, 1.5, 2.0, 3.0]
"""What the screen tries where a number is `auto` and the recipe names no candidates."""

DATA_HINT = (
    "give --data ./problems.jsonl (columns problem and answer), a Hub id, or a name of `resa-hub registry datasets`"
)


@dataclass(frozen=True)
class Plan:
    """An extraction fully resolved by the registry."""

    name: str
    recipe: Recipe
    recipe_name: str
    source: ModelRef
    target: ModelRef
    trigger: Dataset
    elicit: Dataset
    template: str | None
    siblings: dict[str, ModelRef] = field(default_factory=dict)
    """Models that write a part of the rollouts."""

    def lines(self) -> list[tuple[str, str]]:
        """(label, what will be done) for people and `--dry-run`."""
        recipe, method = self.recipe, METHODS[self.recipe.method]
        unused = ", which plays no part in SFT" if method.supervised and recipe.source != recipe.target else ""
        training = recipe.training
        lines = [
            ("name", self.name),
            ("recipe", f"{self.recipe_name} ({recipe.method})"),
            ("source", f"{self.source.named(recipe.source)}{unused}"),
            ("target", self.target.named(recipe.target)),
        ]
        lines += [("sibling", f"{name} = {ref}") for name, ref in self.siblings.items()]
        lines += self._data()
        lines += [] if method.supervised else self._hookpoint()
        if method.patches:
            lines.append(("patch", _patched(recipe)))
        if recipe.rollouts and method.trains_on == "rollouts":
            lines.append(("rollouts", _written(recipe.rollouts)))
        rate = f"learning rate {training.learning_rate:g}"
        return [
            *lines,
            ("LoRA", f"rank {recipe.lora.rank}, alpha {recipe.lora.alpha}, {', '.join(recipe.lora.modules)}"),
            ("training", f"{training.epochs} epochs, {rate}, {recipe.dtype}, seed {recipe.seed}"),
        ]

    def _data(self) -> list[tuple[str, str]]:
        roles = [("trigger", self.recipe.trigger, self.trigger), ("elicit", self.recipe.elicit, self.elicit)]
        if METHODS[self.recipe.method].supervised:  # it has no stage I
            roles = roles[1:]
        return [
            (role, f"{data.name} = {entry.id}{' with its chains of thought' if data.cot else ''}")
            for role, data, entry in roles
        ]

    def _hookpoint(self) -> list[tuple[str, str]]:
        """Where, what the screen tries, and with which SAE."""
        recipe = self.recipe
        lines = [("hookpoint", " + ".join(recipe.all_hookpoints))]
        if recipe.screen:
            unseen = f"on {recipe.screen.rollouts} rollouts that training does not use"
            lines.append(("screen", f"{_tried(recipe)}; {unseen}"))
        if METHODS[recipe.method].sae:
            lines.append(("SAE", self._sae()))
        return lines

    def _sae(self) -> str:
        sae = self.recipe.sae
        if sae.mode == "scratch":
            return f"scratch, {sae.latents:,} latents, k = {sae.k}"
        # Latents and k of a repository that the registry does not know are those of its files, read later.
        known = "" if "/" in (sae.origin or "") else f", {sae.latents:,} latents, k = {sae.k}"
        return f"{sae.mode} from {sae.origin}{known}"


def _patched(recipe: Recipe) -> str:
    """What the teacher is moved by."""
    screen, method = recipe.screen or Screen(), METHODS[recipe.method]
    what = method.patches
    many = f"{what}, as many as the screen finds" if screen.features else f"{recipe.features:,} {what}"
    chosen = f", selected by {SELECTIONS[recipe.selection]}" if method.selects else ""
    return f"{many}{chosen}" + ("" if screen.scales else f"; scale {recipe.scale:g}")


def _written(rollouts: Rollouts) -> str:
    source = f", {rollouts.source_share:.0%} of them by the source" if rollouts.source_share else ""
    return f"{rollouts.count:,} of at most {rollouts.new_tokens:,} tokens, temperature {rollouts.temperature:g}{source}"


def _tried(recipe: Recipe) -> str:
    """The candidates of the screen."""
    screen = recipe.screen or Screen()
    layers = ([f"layers {', '.join(map(str, screen.layers)) or 'but the last'}"]) if recipe.hookpoint == AUTO else []
    features = [f"features {', '.join(map(str, screen.features))}"] if screen.features else []
    scales = [f"scales {', '.join(f'{scale:g}' for scale in screen.scales)}"] if screen.scales else []
    return "; ".join(layers + features + scales)


def plan(
    source: str | None = None,
    *,
    target: str | None = None,
    data: str | None = None,
    trigger: str | None = None,
    elicit: str | None = None,
    layer: int | str | None = None,
    features: int | str | None = None,
    scale: float | str | None = None,
    screen: bool = False,
    method: str | None = None,
    recipe: str | None = None,
    name: str | None = None,
    seed: int | None = None,
    settings: list[str] | None = None,
    registry: Registry,
) -> Plan:
    """Resolve everything that the registry and the caller say. Small files of one's own model are read, nothing else is
    loaded; raises `Usage`, `NotFound`, and `Network` where it lies on the Hub.

    data: for both stages, where trigger and elicit say nothing else. layer, features and scale may be `auto`: chosen by
    the screen. screen: try all three unless the recipe names its candidates.
    """
    if method and method not in METHODS:
        raise Usage(f"no method is called {method!r}", did_you_mean(method, list(METHODS)))
    if seed is not None and seed < 0:
        raise Usage(f"--seed is {seed}: it must be at least 0", "--seed 0")
    source = on_its_base(source, registry) if source else None
    values, recipe_name = base_recipe(source, recipe, method, target, registry)
    options: dict[str, Any] = {"method": method, "source": source, "target": target, "seed": seed}
    options |= _overrides(layer, features, scale, screen, values)
    values = deep_merge(values, {key: value for key, value in options.items() if value is not None})
    values |= _data_of(data, trigger, elicit, values)
    if source and not target and "source" in values:
        values["target"] = registry.base_name(source)
    values = override(values, settings or [], recipe_name)
    if {"source", "target"} <= set(values) and not {"trigger", "elicit"} <= set(values):
        raise Usage("nothing says on which problems to extract", DATA_HINT)
    whole = {"source", "target", "trigger", "elicit"} <= set(values)
    hint = f"`resa-hub recipe show {recipe_name}` shows every key" if whole else NEEDED
    resolved: Recipe = structure(values, Recipe, f"recipe {recipe_name}", hint)
    resolved = checked(resolved)
    given = {"layer": layer, "features": features, "scale": scale, "trigger": trigger if elicit or data else None}
    check_used(resolved, [option for option, value in given.items() if value is not None])
    if name:
        check_name(name)
    return Plan(
        name=name or default_name(resolved, recipe_name, registry),
        recipe=resolved,
        recipe_name=recipe_name,
        source=registry.model(resolved.source),
        target=registry.require_base_model(resolved.target),
        trigger=registry.dataset(resolved.trigger.name),
        elicit=registry.dataset(resolved.elicit.name),
        template=template(resolved, registry),
        siblings=siblings(resolved, registry),
    )


def _data_of(data: str | None, trigger: str | None, elicit: str | None, values: dict[str, Any]) -> dict[str, Any]:
    """What the options say of the data of both stages; raises `Usage` for an option that plays no part."""
    if data and trigger and elicit:
        raise Usage("--data plays no part beside --trigger and --elicit", "leave one of the three out")
    trigger, elicit = trigger or data, elicit or data or trigger
    if "trigger" not in values:
        trigger = trigger or elicit
    return {role: {"name": name} for role, name in (("trigger", trigger), ("elicit", elicit)) if name}


def template(recipe: Recipe, registry: Registry) -> str | None:
    """What the recipe says, else what the registry says of the target."""
    entry = registry.model_entry(recipe.target)
    return recipe.template or (entry.template if entry else None)


def siblings(recipe: Recipe, registry: Registry) -> dict[str, ModelRef]:
    return {name: registry.model(name) for name in (recipe.rollouts.siblings if recipe.rollouts else ())}


def _overrides(
    layer: int | str | None, features: int | str | None, scale: float | str | None, screen: bool, values: dict[str, Any]
) -> dict[str, Any]:
    """The options of layer, features and scale as values of the recipe; `auto` becomes candidates of the screen."""
    candidates = values.get("screen") or {}
    if screen and not any(candidates.get(part) for part in ("layers", "features", "scales")):
        layer = AUTO if layer is None else layer
        features = AUTO if features is None else features
        scale = AUTO if scale is None else scale
    result: dict[str, Any] = {}
    screened: dict[str, Any] = {}
    if layer is not None:
        result["hookpoint"] = AUTO if layer == AUTO else f"layers.{_number('--layer', layer, int)}"
    if features == AUTO:
        screened["features"] = candidates.get("features") or SCREENED_FEATURES
    elif features is not None:
        result["features"] = _number("--features", features, int)
    if scale == AUTO:
        screened["scales"] = candidates.get("scales") or SCREENED_SCALES
    elif scale is not None:
        result["scale"] = _number("--scale", scale, float)
    return result | ({"screen": screened} if screened else {})


def _number(option: str, value: Any, kind: type) -> Any:
    try:
        number = kind(value)
    except (ValueError, OverflowError):
        raise Usage(f"{option} {value!r} is neither a number nor {AUTO}", f"{option} 2, or {option} {AUTO}") from None
    if not math.isfinite(number):
        raise Usage(f"{option} is {value}: it must be a finite number", f"{option} 2, or {option} {AUTO}")
    return number
