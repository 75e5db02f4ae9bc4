"""Names -> references. Three layers of YAML, the later wins: built-in, the user's, the workspace's."""

import re
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from ..core.errors import NotFound, Usage, did_you_mean
from ..core.schema_errors import explained, first_mistake
from ..core.strict import Strict, structure
from .recipe import Recipe, StatedRecipe
from .refs import DATA_SUFFIXES, DatasetRef, ModelRef, Repo, is_path, split_columns
from .schema import KINDS, SINGULAR, Dataset, Model, SweepEntry
from .yaml_file import YamlFile, read_yaml

NEEDED = "a recipe needs source, target, trigger and elicit, its own or by `like`; options may give them, too"
"""Hint for a recipe that says too little."""


class RegistryEntry(Strict, frozen=True, kw_only=True):
    kind: str
    name: str
    layer: str
    """built-in, user or workspace."""
    value: Any


def builtin_path() -> Path:
    """Inside the wheel the file stands in the package; in a clone it is the root's own."""
    here = Path(__file__).parents[1]
    packaged = here / "registry.yaml"
    return packaged if packaged.exists() else here.parent / "registry.yaml"


def user_path() -> Path:
    import platformdirs

    return Path(platformdirs.user_config_dir("resa-hub", appauthor=False)) / "registry.yaml"


def read_layer(path: Path) -> dict[str, dict[str, Any]]:
    """The checked content of one file; raises `Usage` with the line of a mistake."""
    file = read_yaml(path)
    content = file.content or {}
    if not isinstance(content, dict):
        raise Usage(f"{path}: a registry is a mapping of {', '.join(KINDS)}", "see `resa-hub registry`")
    for kind, entries in content.items():
        if kind not in KINDS:
            raise Usage(f"{file.place([kind])}: unknown section {kind!r}", did_you_mean(str(kind), list(KINDS)))
        if not isinstance(entries, dict):
            raise Usage(
                f"{file.place([kind])}: section {kind} is a mapping of name to entry", "see `resa-hub registry`"
            )
        content[kind] = {name: _checked_entry(file, kind, name, value) for name, value in entries.items()}
    return content


def _checked_entry(file: YamlFile, kind: str, name: Any, value: Any) -> Any:
    if not isinstance(name, str):
        raise Usage(
            f"{file.place([kind, name])}: the name {name!r} in {kind} is read as {type(name).__name__}, not as text",
            "put it in quotes",
        )
    try:
        return msgspec.convert(value, KINDS[kind])
    except (msgspec.ValidationError, TypeError) as error:
        raise file.refuse(explained(str(error), value, KINDS[kind]), [kind, name]) from None


class Registry:
    """All layers of one workspace, read on first use."""

    def __init__(self, workspace: Path | None = None) -> None:
        layers = [("built-in", builtin_path()), ("user", user_path())]
        if workspace and (workspace / "registry.yaml").resolve() != builtin_path().resolve():
            layers.append(("workspace", workspace / "registry.yaml"))
        self.layers = [(name, path) for name, path in layers if path.exists()]

    @cached_property
    def entries(self) -> dict[str, dict[str, RegistryEntry]]:
        """Section -> name -> entry, the last layer's where several name it."""
        entries: dict[str, dict[str, RegistryEntry]] = {kind: {} for kind in KINDS}
        for layer, path in self.layers:
            for kind, section in read_layer(path).items():
                for name, value in section.items():
                    entries[kind][name] = RegistryEntry(kind=kind, name=name, layer=layer, value=value)
        return entries

    def folder_of(self, entry: RegistryEntry) -> Path:
        """The folder of a local id; a relative one starts at the registry that names it: a workspace can move."""
        return dict(self.layers)[entry.layer].parent / Path(entry.value.id).expanduser()

    def get(self, kind: str, name: str) -> Any:
        """The entry's value; raises `NotFound` with the nearest name."""
        section = self.entries[kind]
        if name not in section:
            singular = next((one for one, several in SINGULAR.items() if several == kind), kind)
            raise NotFound(
                f"no {singular} is called {name!r}", did_you_mean(name, list(section)) or "see `resa-hub registry`"
            )
        return section[name].value

    def model(self, text: str) -> ModelRef:
        """The model of a registry name, of `name:checkpoint`, or of the text of a `ModelRef`, whose parts may be names,
        too.

        checkpoint: another subfolder of the entry's adapter, as in `tina-still:checkpoint-100`. Raises `NotFound`, and
        `Usage` for an entry that names no model.
        """
        base, plus, adapter = text.partition("+")
        if plus:
            below = self.model(base)
            if below.adapter:
                raise Usage(
                    f"{base} is itself an adapter: no other stands on it", f"write {self.base_name(base)}+{adapter}"
                )
            return ModelRef(below.base, self._adapter(adapter))
        if "/" in text or is_path(text):
            return ModelRef.parse(text)
        entry = self._entry_of(text)
        if entry.id:
            return ModelRef(Repo(entry.id, entry.revision), entry.adapter.repo if entry.adapter else None)
        if not entry.base or not entry.adapter:
            raise Usage(
                f"model {text!r} of the registry has neither `id` nor `base` and `adapter`", "see `resa-hub registry`"
            )
        known = self.model_entry(entry.base)
        if known and (known.base or known.adapter):
            raise Usage(
                f"model {text!r} of the registry stands on {entry.base!r}, which is an adapter itself",
                "name a model without adapter as its base",
            )
        return ModelRef(self.model(entry.base).base, entry.adapter.repo)

    def _adapter(self, text: str) -> Repo:
        """The adapter behind a `+`: that of a registry name, a folder or a Hub id."""
        if "/" in text or is_path(text):
            return Repo.parse(text)
        entry = self._entry_of(text)
        if entry.adapter is None:
            raise Usage(f"{text} is a base model, not an adapter", "name an adapter behind the +, as ./my-lora")
        return entry.adapter.repo

    def require_base_model(self, text: str, option: str = "--target") -> ModelRef:
        """A model without an adapter on it, to put one on or to train one for.

        option: the flag by which the caller names it, for the hint. Raises `Usage` for a model that is itself a LoRA on
        a base: an adapter's manifest names one base.
        """
        ref = self.model(text)
        if ref.adapter:
            raise Usage(
                f"{text} is itself an adapter on a base",
                f"name its base, {option} {self.base_name(text)}, or a folder in which both are merged",
            )
        return ref

    def _entry_of(self, text: str) -> Model:
        """The entry of `name`, or that of `name:checkpoint` with this subfolder of its adapter."""
        name, colon, subfolder = text.partition(":")
        if name not in self.entries["models"]:
            raise NotFound(f"no model is called {name!r}", self._model_hint(name))
        entry: Model = self.get("models", name)
        if not colon:
            return entry
        if not entry.adapter or not subfolder:
            raise Usage(
                f"{text!r} names no checkpoint: {name} is {'an adapter' if entry.adapter else 'a base model'}",
                "write it like tina-still:checkpoint-100",
            )
        checkpoint = Repo.parse(f"{entry.adapter.id}:{subfolder}").subfolder
        adapter = msgspec.structs.replace(entry.adapter, subfolder=checkpoint)
        if adapter == entry.adapter:
            return entry
        return msgspec.structs.replace(
            entry, adapter=adapter, cost_usd=None, cost_note="another checkpoint: its cost is not known"
        )

    def _model_hint(self, name: str) -> str:
        near = did_you_mean(name, list(self.entries["models"]))
        if near.startswith("did you mean"):
            return near
        if name and Path(name).is_dir():
            return f"for the folder write ./{name}"
        return "a model is a name of `resa-hub registry models`, a Hub id owner/name, or a folder ./path"

    def model_entry(self, text: str) -> Model | None:
        """The entry that a model's text names, perhaps with a checkpoint; None for what is no name of the registry."""
        return self._entry_of(text) if text.partition(":")[0] in self.entries["models"] else None

    def base_name(self, text: str) -> str:
        """The name (or id) of the base that a model stands on."""
        entry = self.model_entry(text)
        return entry.base if entry and entry.base else text.partition("+")[0]

    def name_of_base(self, base_id: str) -> str:
        """The short name of a base id, else the id itself."""
        for name, entry in self.entries["models"].items():
            if entry.value.id == base_id and entry.value.adapter is None:
                return name
        return base_id

    def base_of_adapter(self, id_: str) -> str | None:
        """The base on which an entry puts the adapter of this id, whichever checkpoint; None where none names it."""
        entries = (entry.value for entry in self.entries["models"].values())
        return next((value.base for value in entries if value.base and value.adapter and value.adapter.id == id_), None)

    def dataset(self, text: str) -> Dataset:
        """A registry name, a Hub id or a local file, with its columns behind a colon where they are named."""
        name, columns = split_columns(text)
        return msgspec.structs.replace(self._dataset(name), **columns)

    def _dataset(self, text: str) -> Dataset:
        if text in self.entries["datasets"]:
            return self.entries["datasets"][text].value
        if "/" in text or text.endswith(DATA_SUFFIXES):
            ref = DatasetRef.parse(text)
            return Dataset(id=ref.repo.id, revision=ref.repo.revision, split=ref.split)
        if text not in self.entries["datasets"] and text and Path(text).exists():
            raise NotFound(f"no dataset is called {text!r}", f"for the file write ./{text}")
        return self.get("datasets", text)

    def recipe_values(self, name: str) -> dict[str, Any]:
        """The values of a recipe, over those of the recipes that it starts from by `like`.

        A sweep's name and a number name a recipe too.
        """
        values: dict[str, Any] = {}
        for _, stated in reversed(self.recipe_layers(name)):
            values = deep_merge(values, stated)
        return values

    def recipe_layers(self, name: str) -> list[tuple[str, dict[str, Any]]]:
        """(recipe, the values it states itself), from `name` to the one that all start from.

        Raises `NotFound`, and `Usage` for a circle.
        """
        layers: dict[str, dict[str, Any]] = {}
        following: str | None = name
        while following:
            if following in layers:
                raise Usage(
                    f"recipe {following!r} is like itself: {' -> '.join([*layers, following])}",
                    "break the circle in registry.yaml",
                )
            values = dict(self._stated_values(following))
            parent = values.pop("like", None)
            values.pop("note", None)
            layers[following] = values
            following = parent
        return list(layers.items())

    def _stated_values(self, name: str) -> dict[str, Any]:
        """The values of one recipe without those of its parent; those of a sweep's member follow from its number.

        Raises `NotFound`, and `Usage` with the line of a mistake.
        """
        match = re.fullmatch(r"(.*?)(0|[1-9]\d{0,6})", name)
        if name in self.entries["recipes"] or not match or match[1] not in self.entries["sweeps"]:
            values = self.get("recipes", name)
            if found := first_mistake(values, StatedRecipe, partial=True):
                path = dict(self.layers)[self.entries["recipes"][name].layer]
                raise read_yaml(path).refuse(found, ["recipes", name])
            return values
        sweep: SweepEntry = self.get("sweeps", match[1])
        if int(match[2]) not in sweep.numbers:
            raise NotFound(f"the sweep {match[1]} has no {match[2]}", f"it goes over {sweep.over}")
        values: Any = sweep.value.replace("{N}", match[2])
        for key in reversed(sweep.vary.split(".")):
            values = {key: values}
        return {"like": sweep.recipe, **values}

    def sweep_recipes(self, name: str) -> list[str]:
        """The recipes of a sweep, in order."""
        return [f"{name}{number}" for number in self.get("sweeps", name).numbers]

    def recipe(self, name: str) -> Recipe:
        return structure(self.recipe_values(name), Recipe, f"recipe {name}", NEEDED)


def deep_merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` over `below`; where both have a mapping, key by key."""
    result = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = deep_merge(result[key], value) if both else value
    return result
