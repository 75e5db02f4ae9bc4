"""What an adapter is called where nobody says: a published name only where its recipe is that system."""

import contextlib
import functools

from msgspec import structs

from ..config import refs
from ..config.methods import METHODS
from ..config.recipe import AUTO, Recipe
from ..config.refs import check_name
from ..config.registry import Registry
from ..core.errors import HubError

UNNAMED = ("tiny-", "default-")
"""How recipes begin whose name is none for an adapter: they serve any source."""


def default_name(recipe: Recipe, recipe_name: str, registry: Registry) -> str:
    """The name of the recipe of the registry that this is, `RECIPE-changed` and the like where options change one, else
    a name that says source, method and layer. Seeds are versions of one name.
    """
    if not recipe_name.startswith(UNNAMED):
        with contextlib.suppress(HubError):  # a file's name, or a fragment that says too little to be run
            stands = registry.recipe(recipe_name)
            if named := _named_recipe(recipe, recipe_name, registry):
                return named
            if recipe.source == stands.source:
                return check_name(f"{recipe_name}{_changes(recipe, stands)}"[:96])
    source = recipe.source.rstrip("/").rpartition("/")[2].lower()
    safe = "".join(c if c.isalnum() or c in "._-" else "-" for c in source).strip("._-") or "model"
    if METHODS[recipe.method].supervised:
        suffix = "-cot" if recipe.elicit.cot else ""
    else:
        suffix = _layers(recipe)
    return check_name(f"{safe}-{recipe.method}{suffix}"[:96])


def _named_recipe(recipe: Recipe, recipe_name: str, registry: Registry) -> str | None:
    """The name of an equal recipe of the registry, seeds aside: the one that was started from, or another
    (`resa-qwen`, `resa-still-v1-layer7`).
    """
    known = _named_recipes(registry)
    names = [recipe_name, *known] if recipe_name in known else known
    return next((name for name in names if structs.replace(known[name], seed=recipe.seed) == recipe), None)


@functools.lru_cache(maxsize=2)
def _named_recipes(registry: Registry) -> dict[str, Recipe]:
    """All that give an adapter their name, members of sweeps last; fragments say too little to be one."""
    members = [member for sweep in registry.entries["sweeps"] for member in registry.sweep_recipes(sweep)]
    known = {}
    for name in (*registry.entries["recipes"], *members):
        if not name.startswith(UNNAMED):
            with contextlib.suppress(HubError):
                known[name] = registry.recipe(name)
    return known


def _changes(recipe: Recipe, stands: Recipe) -> str:
    """What sets a recipe apart from the one that it was made of: method, layer, and whether there is more."""
    method = f"-{recipe.method}" if recipe.method != stands.method else ""
    layer = _layers(recipe) if recipe.all_hookpoints != stands.all_hookpoints else ""
    told = {
        "method": recipe.method,
        "hookpoint": recipe.hookpoint,
        "hookpoints": recipe.hookpoints,
        "seed": recipe.seed,
    }
    return method + layer + ("" if structs.replace(stands, **told) == recipe else "-changed")


def _layers(recipe: Recipe) -> str:
    return "".join(f"-{_short(hookpoint)}" for hookpoint in recipe.all_hookpoints)


def _short(hookpoint: str) -> str:
    """l12, l12-mlp or auto."""
    if hookpoint == AUTO:
        return AUTO
    return f"l{refs.layer_of(hookpoint)}{'-mlp' if hookpoint.endswith('.mlp') else ''}"
