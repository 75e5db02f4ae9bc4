"""The plan of an extraction: everything that registry and caller say, resolved, before anything heavy is loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import refs
from .errors import HubError, NotFound, Usage, did_you_mean
from .recipe import METHODS, Recipe, override, structure
from .refs import ModelRef, check_name
from .registry import Dataset, Registry, merged


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

    def lines(self) -> list[tuple[str, str]]:
        """What will be done, for people and `--dry-run`."""
        r = self.recipe
        where = {"trigger": self.trigger, "elicit": self.elicit}
        return [
            ("name", self.name),
            ("recipe", f"{self.recipe_name} ({r.method})"),
            ("source", f"{r.source} = {self.source}"),
            ("target", f"{r.target} = {self.target}"),
            *((role, f"{data.name} = {where[role].id}") for role, data in (("trigger", r.trigger), ("elicit", r.elicit))),
            ("hookpoint", r.hookpoint),
            ("SAE", f"{r.sae.mode}{f' from {r.sae.origin}' if r.sae.origin else ''}, {r.sae.latents:,} latents, k = {r.sae.k}"),
            ("LoRA", f"rank {r.lora.rank}, alpha {r.lora.alpha}, {', '.join(r.lora.modules)}"),
            ("training", f"{r.training.epochs} epochs, learning rate {r.training.learning_rate:g}, {r.dtype}, seed {r.seed}"),
        ]


def plan(
    source: str | None = None,
    *,
    target: str | None = None,
    trigger: str | None = None,
    elicit: str | None = None,
    layer: int | None = None,
    method: str | None = None,
    recipe: str | None = None,
    name: str | None = None,
    seed: int | None = None,
    settings: list[str] | None = None,
    registry: Registry,
) -> Plan:
    """Resolve everything that the registry and the caller say; raises `Usage` and `NotFound`, loads nothing."""
    if method and method not in METHODS:
        raise Usage(f"no method is called {method!r}", did_you_mean(method, list(METHODS)))
    values, recipe_name = _base_recipe(source, recipe, method, registry)
    said: dict[str, Any] = {"method": method, "source": source, "target": target, "seed": seed, "hookpoint": None if layer is None else f"layers.{layer}"}
    values = merged(values, {key: value for key, value in said.items() if value is not None})
    for role, data in (("trigger", trigger), ("elicit", elicit if elicit or not trigger else trigger)):
        if data:
            values[role] = {"name": data}
    if source and not target and "source" in values:
        values["target"] = registry.base_name(source)
    resolved: Recipe = structure(override(values, settings or []), Recipe, f"recipe {recipe_name}")
    refs.check_hookpoint(resolved.hookpoint)
    if name:
        check_name(name)
    entry = registry.model_entry(resolved.target)
    return Plan(
        name=name or default_name(resolved, recipe_name, registry),
        recipe=resolved,
        recipe_name=recipe_name,
        source=registry.model(resolved.source),
        target=registry.model(resolved.target),
        trigger=registry.dataset(resolved.trigger.name),
        elicit=registry.dataset(resolved.elicit.name),
        template=entry.template if entry else None,
    )


def _base_recipe(source: str | None, recipe: str | None, method: str | None, registry: Registry) -> tuple[dict[str, Any], str]:
    """The values to start from: a recipe file, a named recipe, or the source's default."""
    if recipe and (recipe.endswith((".yaml", ".yml")) or "/" in recipe):
        import yaml

        path = Path(recipe).expanduser()
        if not path.is_file():
            raise NotFound(f"the recipe file {path} does not exist", "name a recipe of the registry, or an existing YAML file")
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
            mark = getattr(error, "problem_mark", None)
            place = f", line {mark.line + 1}" if mark else ""
            raise Usage(f"{path}{place}: not valid YAML", "mend that line") from None
        if not isinstance(values, dict):
            raise Usage(f"{path}: a recipe is a mapping of settings", "`resa-hub registry recipe:tiny-sae-tuning` shows one")
        parent = structure(values.pop("like", None), str | None, f"{path}: like")
        values.pop("note", None)
        return (merged(registry.recipe_values(parent), values) if parent else values), path.stem
    if recipe:
        return registry.recipe_values(recipe), recipe
    if not source:
        raise Usage("nothing says what to extract from", "give --source NAME or --recipe NAME; `resa-hub registry models` lists sources")
    registry.model(source)  # a wrong name is the first thing to say
    entry = registry.model_entry(source)
    if not entry or not entry.recipes:
        known = [name for name, e in registry.entries["models"].items() if e.value.recipes]
        raise Usage(f"the registry has no recipe for {source}", f"give --recipe NAME, or choose a source that has one: {', '.join(known)}")
    # The methods that distil on rollouts start from the settings of feature-diff.
    likely = (method, None if method in (None, "sae-tuning") else "feature-diff", next(iter(entry.recipes)))
    chosen = next(entry.recipes[m] for m in likely if m in entry.recipes)
    return registry.recipe_values(chosen), chosen


def default_name(recipe: Recipe, recipe_name: str, registry: Registry) -> str:
    """The recipe's own name where it is run as it stands, else one that says source, method and layer."""
    if not recipe_name.startswith("tiny-") and _as_it_stands(recipe, recipe_name, registry):
        return recipe_name
    source = recipe.source.rpartition("/")[2].lower()
    safe = "".join(c if c.isalnum() or c in "._-" else "-" for c in source).strip("._-") or "model"
    return check_name(f"{safe}-{recipe.method}-l{refs.layer_of(recipe.hookpoint)}{'-mlp' if recipe.hookpoint.endswith('.mlp') else ''}"[:96])


def _as_it_stands(recipe: Recipe, recipe_name: str, registry: Registry) -> bool:
    try:
        return recipe == registry.recipe(recipe_name)
    except HubError:  # a file's name, or a fragment that says too little to be run
        return False
