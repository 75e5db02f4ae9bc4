"""What a recipe says, who says each part of it, and what its names stand for."""

from collections.abc import Sequence
from typing import Any

import msgspec

from ..config.methods import METHODS
from ..config.recipe import Recipe
from ..config.refs import Repo, is_path
from ..config.registry import Registry, deep_merge
from ..core.errors import HubError
from ..core.strict import structure
from ..data import tiny
from .base_recipe import DEFAULT_RECIPES
from .plan import Plan, plan

DEFAULT = "default"
UNPINNED = "not pinned"
REQUIRED = {"source", "target", "trigger", "elicit"}


YOURS = "yours to give"
"""In place of what a recipe leaves to options and to other recipes."""
BY_SIZE = {"hookpoint", "sae.latents", "dtype"}
"""What the target's config.json decides in the recipes for a model of one's own."""


class Field(msgspec.Struct, frozen=True):
    path: str
    value: Any
    origin: str
    """The recipe that says it, or default."""


class ResolvedReference(msgspec.Struct, frozen=True):
    role: str
    name: str
    id: str
    state: str
    """The revision; not pinned; or why it needs none."""


class Description(msgspec.Struct, frozen=True):
    name: str
    note: str
    like: list[str]
    """The recipes it starts from, nearest first."""
    fields: list[Field]
    references: list[ResolvedReference]
    digest: str


def describe(name: str, registry: Registry) -> Description:
    """Raises `NotFound` for an unknown recipe, `Usage` for one that cannot be; of a fragment, which says too little to
    be run, the references and the digest are empty.
    """
    if name in registry.entries["recipes"] and not set(registry.recipe_values(name)) >= REQUIRED:
        return _fragment(name, registry)
    resolved = plan(recipe=name, registry=registry)
    try:
        layers = registry.recipe_layers(name)
    except HubError:  # a file: it says everything itself
        layers = [(name, msgspec.to_builtins(resolved.recipe))]
    fields = _fields(resolved.recipe, layers)
    found = references(resolved, registry)
    return Description(
        name, _note(name, registry), [who for who, _ in layers[1:]], fields, found, resolved.recipe.digest()
    )


def _fragment(name: str, registry: Registry) -> Description:
    layers = registry.recipe_layers(name)
    yours = {"source": YOURS, "target": YOURS, "trigger": {"name": YOURS}, "elicit": {"name": YOURS}}
    recipe = structure(deep_merge(yours, registry.recipe_values(name)), Recipe, f"recipe {name}")
    fields = _fields(recipe, [*layers, ("options", yours)])
    if name.startswith(DEFAULT_RECIPES):
        config = "config.json of the target"
        fields = [Field(f.path, "by its sizes", config) if f.path in BY_SIZE else f for f in fields]
    return Description(name, _note(name, registry), [who for who, _ in layers[1:]], fields, [], "")


def _note(name: str, registry: Registry) -> str:
    entry = registry.entries["recipes"].get(name)
    return str(entry.value.get("note", "")) if entry else ""


def _fields(recipe: Recipe, layers: Sequence[tuple[str, Any]]) -> list[Field]:
    return [
        Field(path, value, next((who for who, said in layers if says(said, path)), DEFAULT))
        for path, value in flat(msgspec.to_builtins(recipe))
    ]


def flat(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """(dotted path, value) of every leaf, in order."""
    if not isinstance(value, dict):
        return [(prefix.removesuffix("."), value)]
    return [leaf for key, part in value.items() for leaf in flat(part, f"{prefix}{key}.")]


def says(values: Any, path: str) -> bool:
    for key in path.split("."):
        if not isinstance(values, dict) or key not in values:
            return False
        values = values[key]
    return True


def references(made: Plan, registry: Registry) -> list[ResolvedReference]:
    """Everything that a run would read, each repository on its own."""
    recipe, found = made.recipe, []
    models = [
        ("source", recipe.source, made.source),
        ("target", recipe.target, made.target),
        *(("sibling", *sibling) for sibling in made.siblings.items()),
    ]
    for role, name, ref in models:
        found.append(_reference(role, name, ref.base))
        if ref.adapter:
            found.append(_reference(f"{role}'s adapter", name, ref.adapter))
    for role, data, entry in (("trigger", recipe.trigger, made.trigger), ("elicit", recipe.elicit, made.elicit)):
        found.append(_reference(role, data.name, Repo(entry.id, entry.revision)))
    origin = recipe.sae.origin
    if origin and recipe.sae.mode != "scratch":
        known = registry.entries["saes"].get(origin)
        found.append(_reference("SAE", origin, Repo(known.value.id, known.value.revision) if known else Repo(origin)))
    return found


def _reference(role: str, name: str, repo: Repo) -> ResolvedReference:
    where = repo.id + (f":{repo.subfolder}" if repo.subfolder else "")
    if repo.id.startswith(tiny.PREFIX):
        return ResolvedReference(role, name, where, "embedded")
    return ResolvedReference(role, name, where, "local" if is_path(repo.id) else repo.revision or UNPINNED)


def runnable(registry: Registry) -> list[dict[str, str]]:
    """The recipes that say enough to be run, and the sweeps."""
    rows = []
    for name, entry in registry.entries["recipes"].items():
        try:
            recipe: Recipe = registry.recipe(name)
        except HubError:  # a fragment
            continue
        rows.append(_row(name, recipe, entry.layer))
    for name, entry in registry.entries["sweeps"].items():
        first = registry.sweep_recipes(name)[0]
        rows.append(
            _row(f"{name}{{{entry.value.over}}}", registry.recipe(first), entry.layer)
            | {"source": entry.value.value if entry.value.vary == "source" else registry.recipe(first).source}
        )
    return rows


def _row(name: str, recipe: Recipe, layer: str) -> dict[str, str]:
    data = recipe.trigger.name if recipe.trigger == recipe.elicit else f"{recipe.trigger.name} -> {recipe.elicit.name}"
    sae = recipe.sae.mode if METHODS[recipe.method].sae else "-"
    return {
        "recipe": name,
        "method": recipe.method,
        "source": recipe.source,
        "target": recipe.target,
        "SAE": sae,
        "data": data,
        "from": layer,
    }
