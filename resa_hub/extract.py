"""`extract`: plan -> stage I -> stage II -> artifact. The plan is made without anything heavy and can be shown alone."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from . import datasets, refs
from .adapter import card, kinship
from .adapter.files import CARD, MANIFEST, content_hash, identity_of, scan
from .adapter.manifest import DataRecord, Manifest, Run
from .adapter.store import Adapter
from .errors import Usage
from .plan import Plan, plan
from .progress import Progress
from .recipe import Recipe, canonical_digest, told
from .refs import ModelRef
from .sources import Files, Rows, locate
from .workspace import Workspace

LIBRARIES = ("torch", "transformers", "peft", "sae-lens", "safetensors", "numpy")


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
            "recipe": told(chosen.recipe),
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
