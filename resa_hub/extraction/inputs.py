"""What an extraction starts from: the files and texts that a plan names, fetched, with the digest of all that decides
the result.
"""

from pathlib import Path
from typing import Any, NamedTuple

from ..adapter import weight_fingerprint
from ..adapter.fit import DISTANT_CORRELATION
from ..adapter.layout import WEIGHTS
from ..adapter.workspace import Workspace
from ..config import refs
from ..config.recipe import AUTO, Recipe
from ..config.refs import ModelRef
from ..core.errors import DoesNotFit, Usage
from ..core.strict import canonical_digest, non_default_values
from ..data import architectures, datasets, saes
from ..data.snapshots import Files, Rows, SaeFiles, locate, weights_digest
from .plan import Plan


class Inputs(NamedTuple):
    plan: Plan
    source: tuple[Files, Files | None]
    target: tuple[Files, Files | None]
    trigger: Rows
    elicit: Rows
    siblings: dict[str, tuple[Files, Files | None]]
    reference: Path | None
    """The adapter whose norm the method `random` takes."""
    saes: dict[str, SaeFiles]
    """What stage I starts from, by hookpoint; empty for mode scratch."""

    @property
    def digest(self) -> str:
        """Of everything that decides the result."""
        decides: dict[str, Any] = {
            "recipe": non_default_values(self.plan.recipe),
            "source": _revisions(self.source),
            "target": _revisions(self.target),
        }
        decides["data"] = [self.trigger.fingerprint, self.elicit.fingerprint]
        if self.siblings:
            decides["siblings"] = {name: _revisions(files) for name, files in self.siblings.items()}
        if self.plan.recipe.norm_of and self.reference:
            decides["norm_of"] = weights_digest([self.reference / WEIGHTS])
        if self.plan.template:
            decides["template"] = self.plan.template
        if self.saes:
            decides["saes"] = {at: sae.digest for at, sae in self.saes.items()}
        return canonical_digest(decides)


def gather_inputs(plan: Plan, workspace: Workspace) -> Inputs:
    """The files and texts that a plan names, fetched where they are not here. Raises the errors of `snapshots.locate`,
    `datasets.load` and `saes.initial_saes`.
    """
    recipe = plan.recipe
    # SAEs first: one that does not fit is refused before anything large is fetched.
    starts = saes.initial_saes(recipe, workspace.registry)
    source = _files(plan.source)
    return Inputs(
        plan=plan,
        source=source,
        target=_files(plan.target),
        trigger=datasets.load(recipe.trigger, plan.trigger),
        elicit=datasets.load(recipe.elicit, plan.elicit),
        siblings={name: _files(ref) for name, ref in plan.siblings.items()},
        reference=_reference(recipe, source, workspace),
        saes=starts,
    )


def check_kinship(inputs: Inputs) -> None:
    """Source, target and siblings must share architecture and sizes, for states are compared entry by entry, and have
    the layer; siblings share weights too.

    Raises `DoesNotFit`, and `Usage` for a layer that is not there.
    """
    recipe, target = inputs.plan.recipe, inputs.target[0]
    for files in (inputs.source[0], target):
        architectures.check(files.config, files.id)
    _check_shapes(recipe.source, inputs.source[0], recipe.target, target)
    for name, (files, _) in inputs.siblings.items():
        _check_shapes(name, files, recipe.target, target)
        r = weight_fingerprint.correlation(weight_fingerprint.sketch(target.weights), files.weights)
        if r < DISTANT_CORRELATION:
            raise DoesNotFit(
                f"{name} is no sibling of {recipe.target}: unrelated weights (correlation {r:.3f})",
                "name models of the target's close lineage",
            )
    layers = weight_fingerprint.shapes(target.config).get("num_hidden_layers")
    deepest = max((refs.layer_of(at) for at in recipe.all_hookpoints if at != AUTO), default=0)
    if isinstance(layers, int) and deepest >= layers:
        raise Usage(
            f"layers.{deepest} does not exist: {recipe.target} has {layers} layers",
            f"choose layers.0 to layers.{layers - 1}",
        )


def _check_shapes(name: str, model: Files, target_name: str, target: Files) -> None:
    ours, theirs = weight_fingerprint.shapes(target.config), weight_fingerprint.shapes(model.config)
    different = [key for key in theirs if key != "vocab_size" and ours.get(key) != theirs[key]]
    if different:
        key = different[0]
        raise DoesNotFit(
            f"{name} and {target_name} have other shapes: {key} {theirs[key]} and {ours.get(key)}",
            "choose models of one family and size",
        )


def _reference(recipe: Recipe, source: tuple[Files, Files | None], workspace: Workspace) -> Path | None:
    """The adapter whose norm a random one takes: the one that is named, else the source's own."""
    if recipe.norm_of is None:
        return source[1].folder if source[1] else None
    if refs.is_path(recipe.norm_of):
        return locate(refs.Repo(recipe.norm_of), "adapter").folder
    return workspace.named.get(refs.AdapterRef.parse(recipe.norm_of)).folder


def _files(ref: ModelRef) -> tuple[Files, Files | None]:
    return locate(ref.base), locate(ref.adapter, "adapter") if ref.adapter else None


def _revisions(files: tuple[Files, Files | None]) -> list[str]:
    return [f.revision for f in files if f]
