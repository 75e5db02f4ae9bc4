"""The recipe that a plan starts from, before options: a YAML file, a name of the registry, or the source's default."""

from pathlib import Path
from typing import Any

from ..config.methods import METHODS
from ..config.registry import Registry, deep_merge
from ..core.errors import NotFound, Usage
from ..core.strict import structure

Values = dict[str, Any]


def base_recipe(source: str | None, recipe: str | None, method: str | None, registry: Registry) -> tuple[Values, str]:
    """(its values, its name). Raises `NotFound` and `Usage`."""
    if recipe and (recipe.endswith((".yaml", ".yml")) or "/" in recipe):
        return _file(Path(recipe).expanduser(), registry)
    if recipe:
        return registry.recipe_values(recipe), recipe
    if not source:
        raise Usage(
            "nothing says what to extract from",
            "give --source NAME or --recipe NAME; `resa-hub registry models` lists sources",
        )
    name = _default(source, method, registry)
    return registry.recipe_values(name), name


def _file(path: Path, registry: Registry) -> tuple[Values, str]:
    import yaml

    if not path.is_file():
        hint = "name a recipe of the registry, or an existing YAML file"
        raise NotFound(f"the recipe file {path} does not exist", hint)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise Usage(f"{path}{line}: not valid YAML", "mend that line") from None
    if not isinstance(values, dict):
        hint = "`resa-hub registry recipe:tiny-sae-tuning` shows one"
        raise Usage(f"{path}: a recipe is a mapping of settings", hint)
    parent = structure(values.pop("like", None), str | None, f"{path}: like")
    values.pop("note", None)
    return (deep_merge(registry.recipe_values(parent), values) if parent else values), path.stem


def _default(source: str, method: str | None, registry: Registry) -> str:
    """The recipe that the registry names for this source and method."""
    registry.model(source)  # a wrong name is the first thing to say
    entry = registry.model_entry(source)
    if not entry or not entry.recipes:
        known = [name for name, e in registry.entries["models"].items() if e.value.recipes]
        hint = f"give --recipe NAME, or choose a source that has one: {', '.join(known)}"
        raise Usage(f"the registry has no recipe for {source}", hint)
    # The methods that distil on rollouts start from the settings of feature-diff.
    like = "feature-diff" if method and not METHODS[method].splices else None
    likely = (method, like, next(iter(entry.recipes)))
    return next(entry.recipes[name] for name in likely if name in entry.recipes)
