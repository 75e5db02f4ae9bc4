"""`extract`: plan -> stage I -> stage II -> artifact. The plan is made without anything heavy and can be shown alone."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from . import datasets, refs
from .adapter import card, kinship
from .adapter.files import CARD, MANIFEST, content_hash, identity_of, scan
from .adapter.manifest import DataRecord, Manifest, Run
from .adapter.store import Adapter
from .errors import HubError, NotFound, Usage, did_you_mean
from .progress import Progress
from .recipe import METHODS, Recipe, canonical_digest, override, structure
from .refs import ModelRef, check_name
from .registry import Dataset, Registry, merged, plain
from .sources import Files, Rows, locate
from .workspace import Workspace

LIBRARIES = ("torch", "transformers", "peft", "sae-lens", "safetensors", "numpy")


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


def extract(
    source: str | None = None,
    *,
    workspace: str | Path | None = None,
    again: bool = False,
    progress: Progress | None = None,
    made: Plan | None = None,
    **choices: Any,
) -> tuple[Adapter, bool]:
    """Extract an adapter into the store. Returns it and whether it was made now: a finished recipe is not run twice unless `again`.

    `choices` are those of `plan`. Raises the errors of the plan, `DoesNotFit`, `NoEffect`, `RunFailed`.
    """
    home, progress = Workspace.find(workspace), progress or Progress()
    chosen = made or plan(source, registry=home.registry, **choices)
    began = time.monotonic()
    source_files, target_files = _files(chosen.source), _files(chosen.target)
    trigger, elicit = datasets.load(chosen.recipe.trigger, chosen.trigger), datasets.load(chosen.recipe.elicit, chosen.elicit)
    digest = canonical_digest(
        {
            "recipe": plain(chosen.recipe),
            "source": _revisions(source_files),
            "target": _revisions(target_files),
            "data": [trigger.fingerprint, elicit.fingerprint],
        }
    )
    present = None if again else home.store.with_recipe(digest, chosen.name)
    if present:
        return present, False
    _check_kinship(chosen, source_files[0], target_files[0])
    with home.store.staging() as folder:
        manifest = _run(chosen, source_files, target_files, trigger, elicit, digest, folder, progress, began)
        manifest = msgspec.structs.replace(manifest, version=home.store.next_version(chosen.name))
        (folder / MANIFEST).write_bytes(manifest.to_json())
        (folder / CARD).write_text(card.render(manifest), encoding="utf-8")
        adapter, _ = home.store.add(folder)
    return adapter, True


def _run(
    chosen: Plan,
    source: tuple[Files, Files | None],
    target: tuple[Files, Files | None],
    trigger: Rows,
    elicit: Rows,
    digest: str,
    folder: Path,
    progress: Progress,
    began: float,
) -> Manifest:
    from importlib.metadata import version

    from .engine.extraction import hardware, make
    from .engine.models import Source
    from .engine.tune.session import Session

    recipe = chosen.recipe
    session = Session(recipe, Source(*source), Source(*target), chosen.template, trigger, elicit, _sae_start(recipe), progress)
    made = make(session, target[0], folder)
    entries = scan(folder)
    return Manifest(
        name=chosen.name,
        version="0.0.0",
        content_hash=content_hash(entries),
        files=identity_of(entries),
        method=recipe.method,
        hookpoint=recipe.hookpoint,
        base=kinship.describe_base(target[0]),
        probe=made.probe,
        source=str(chosen.source),
        source_revision=Source(*source).revision,
        sae=made.sae,
        data={
            role: DataRecord(name=rows.name, id=rows.id, revision=rows.revision, fingerprint=rows.fingerprint, rows=len(rows.pairs))
            for role, rows in (("trigger", trigger), ("elicit", elicit))
        },
        recipe=recipe,
        recipe_digest=digest,
        seed=recipe.seed,
        parents=(source[1].weights_digest,) if source[1] else (),
        run=Run(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - began, 1),
            tokens=made.tokens,
            stages={name: round(seconds, 2) for name, seconds in progress.seconds.items()},
            hardware=hardware(),
            libraries={name: version(name) for name in LIBRARIES},
            findings=made.findings,
        ),
    )


def _files(ref: ModelRef) -> tuple[Files, Files | None]:
    return locate(ref.base), locate(ref.adapter, "adapter") if ref.adapter else None


def _revisions(files: tuple[Files, Files | None]) -> list[str]:
    return [f.revision for f in files if f]


def _sae_start(recipe: Recipe) -> Path | None:
    """The SAE that `pretrained` and `finetuned` start from."""
    if recipe.sae.mode == "scratch":
        return None
    if not recipe.sae.origin:
        raise Usage(f"SAE mode {recipe.sae.mode} needs an SAE to start from", "--set sae.origin=./folder, or --set sae.mode=scratch")
    if not refs.is_path(recipe.sae.origin):
        raise Usage(
            f"the SAE {recipe.sae.origin} is in sparsify format, which this version does not read yet",
            "--set sae.origin=./folder with an SAE in SAELens format, or --set sae.mode=scratch",
        )
    return Path(recipe.sae.origin).expanduser()


def _check_kinship(chosen: Plan, source: Files, target: Files) -> None:
    """Source and target must share architecture and sizes, for states are compared entry by entry, and have the layer."""
    from .errors import DoesNotFit

    ours, theirs = kinship.shapes(target.config), kinship.shapes(source.config)
    different = [key for key in theirs if key != "vocab_size" and ours.get(key) != theirs[key]]
    if different:
        key = different[0]
        raise DoesNotFit(
            f"{chosen.recipe.source} and {chosen.recipe.target} have other shapes: {key} {theirs[key]} and {ours.get(key)}",
            "choose a --target of the source's family and size",
        )
    layers = ours.get("num_hidden_layers")
    if isinstance(layers, int) and refs.layer_of(chosen.recipe.hookpoint) >= layers:
        raise Usage(f"{chosen.recipe.hookpoint} does not exist: {chosen.recipe.target} has {layers} layers", f"choose layers.0 to layers.{layers - 1}")
