"""The recipe that a plan starts from, before options: a YAML file, a name of the registry, the source's own, or that of
a model of one's own, whose layer and sizes follow from the target's config.json.
"""

from pathlib import Path
from typing import Any

from ..config.methods import DEFAULT_METHOD, METHODS
from ..config.recipe import StatedRecipe
from ..config.registry import Registry, deep_merge
from ..config.yaml_file import read_yaml
from ..core.errors import NotFound, Usage
from ..core.flops import Shapes
from ..core.schema_errors import first_mistake
from ..data.own_models import model_config

Values = dict[str, Any]
DEFAULT_RECIPES = "default-"
"""How the recipes for a model of one's own begin; the rest is a method."""
DEPTH = 12 / 28
"""Where the default hookpoint lies: the paper's layer 12 of 28."""
LATENTS = 32
"""Latents for each unit of width, raised to a power of two: 65,536 at the paper's width of 1,536."""


def base_recipe(
    source: str | None, recipe: str | None, method: str | None, target: str | None, registry: Registry
) -> tuple[Values, str]:
    """(its values, its name). Raises `NotFound` and `Usage`, and `Network` where a config.json of the Hub is needed."""
    if recipe and (recipe.endswith((".yaml", ".yml")) or "/" in recipe):
        values, name, parent = _file(Path(recipe).expanduser(), registry)
    elif recipe in registry.entries["models"] and recipe not in registry.entries["recipes"]:
        raise NotFound(f"no recipe is called {recipe!r}", f"it is a model: --source {recipe}")
    elif recipe:
        values, name = registry.recipe_values(recipe), recipe
        parent = name
    elif source:
        registry.model(source)  # a wrong name is the first thing to say
        name = _of_source(source, method, registry) or f"{DEFAULT_RECIPES}{_like(method)}"
        values = deep_merge(_data_of_source(source, registry), registry.recipe_values(name))
        parent = name
    else:
        raise Usage(
            "nothing says what to extract from",
            "give --source MODEL or --recipe NAME; `resa-hub registry models` lists sources",
        )
    if parent and any(like.startswith(DEFAULT_RECIPES) for like, _ in registry.recipe_layers(parent)):
        values = deep_merge(_for_sizes(target or values.get("target"), source, registry), values)
    return values, name


def _file(path: Path, registry: Registry) -> tuple[Values, str, str | None]:
    """(values, name, the recipe that it starts from)."""
    if not path.is_file():
        what = "it is a folder" if path.is_dir() else "no such file"
        raise NotFound(f"recipe {path}: {what}", "name a recipe of `resa-hub recipe list`, or a YAML file")
    file = read_yaml(path)
    if not isinstance(file.content, dict):
        hint = "`resa-hub registry recipe:tiny-sae-tuning` shows one"
        raise Usage(f"{path}: a recipe is a mapping of settings", hint)
    if found := first_mistake(file.content, StatedRecipe, partial=True):
        raise file.refuse(found)
    values = {key: value for key, value in file.content.items() if key not in ("like", "note")}
    parent = file.content.get("like")
    return (deep_merge(registry.recipe_values(parent), values) if parent else values), path.stem, parent


def _of_source(source: str, method: str | None, registry: Registry) -> str | None:
    """The recipe that the registry names for this source and method, None where it names none: settings of a method of
    another kind would make an adapter that does nothing.
    """
    entry = registry.model_entry(source)
    recipes = entry.recipes if entry else {}
    likely = (method, _like(method)) if method else tuple(recipes)
    return next((recipes[name] for name in likely if name in recipes), None)


def _data_of_source(source: str, registry: Registry) -> Values:
    """Target and data of the first recipe that the registry names for this source; empty where it names none."""
    entry = registry.model_entry(source)
    first = registry.recipe_values(next(iter(entry.recipes.values()))) if entry and entry.recipes else {}
    return {key: first[key] for key in ("target", "trigger", "elicit") if key in first}


def _like(method: str | None) -> str:
    """The method whose default recipe one starts from."""
    spec = METHODS[method or DEFAULT_METHOD]
    if spec.supervised:
        return "sft"
    return "sae-tuning" if spec.splices else "feature-diff"


def _for_sizes(target: str | None, source: str | None, registry: Registry) -> Values:
    """Hookpoint, latents and dtype for the base that is trained; raises `Usage` where nothing says which it is."""
    if not target and not source:
        return {}
    base = target or (registry.base_name(source) if source else None)
    if base is None or (base == source and not target):
        raise Usage(
            f"{source or 'the source'} is a whole model, and nothing says what it was trained from",
            "give --target BASE: the model before its reasoning training, as a folder, Hub id or registry name",
        )
    config = model_config(registry.require_base_model(base), base, registry)
    values: Values = {"dtype": "float32" if _precision(config) == "float32" else "bfloat16"}
    shapes = Shapes.of(config)
    if shapes:
        values["hookpoint"] = f"layers.{round(DEPTH * shapes.depth)}"
        values["sae"] = {"latents": 1 << (LATENTS * shapes.width - 1).bit_length()}
    return values


def _precision(config: dict[str, Any]) -> Any:
    """Of the weights; transformers 4 called it otherwise."""
    return config.get("dtype") or config.get("torch_dtype")
