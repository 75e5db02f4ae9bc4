"""What an extraction starts from: the files and texts that a plan names, fetched, with the digest of all that decides
the result.
"""

from pathlib import Path
from typing import Any, NamedTuple

from ..adapter.layout import WEIGHTS
from ..adapter.workspace import Workspace
from ..config import refs
from ..config.methods import METHODS
from ..config.recipe import Recipe, Rollouts
from ..core.strict import canonical_digest, non_default_values
from ..data import architectures, datasets, saes
from ..data.snapshots import Files, Rows, SaeFiles, locate, weights_digest
from .checks import check_layers, check_shapes, check_sibling
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
    # What is small first, whole models last: an SAE that does not fit, a checkpoint that is not there and a column that
    # is missing are told before anything large is fetched.
    starts = saes.initial_saes(recipe, workspace.registry)
    models = [plan.source, plan.target, *plan.siblings.values()]
    adapters = {repo: locate(repo, "adapter") for repo in dict.fromkeys(ref.adapter for ref in models) if repo}
    trigger, elicit = datasets.load(recipe.trigger, plan.trigger), datasets.load(recipe.elicit, plan.elicit)
    bases = {repo: locate(repo) for repo in dict.fromkeys(ref.base for ref in models)}
    source, target, *siblings = [(bases[ref.base], adapters[ref.adapter] if ref.adapter else None) for ref in models]
    return Inputs(
        plan=plan,
        source=source,
        target=target,
        trigger=trigger,
        elicit=elicit,
        siblings=dict(zip(plan.siblings, siblings, strict=True)),
        reference=_reference(recipe, source, workspace),
        saes=starts,
    )


def remarks(inputs: Inputs) -> list[str]:
    """What a person should know of the data before a run: rows that are left out, fewer rollouts than asked."""
    recipe, method = inputs.plan.recipe, METHODS[inputs.plan.recipe.method]
    used = {rows.name: rows for rows in (inputs.elicit, *([inputs.trigger] if method.splices else []))}
    said = [f"data {name}: {rows.left_out}" for name, rows in used.items() if rows.lacking]
    asked, there = (recipe.rollouts or Rollouts()).count, len(inputs.elicit.pairs)
    if method.trains_on == "rollouts" and there < asked:
        said.append(f"{there:,} rollouts are made, not {asked:,}: data {inputs.elicit.name} has no more questions")
    return said


def check_kinship(inputs: Inputs) -> None:
    """What `checks.check` asks, of the files that were fetched since: source, target and siblings must share
    architecture and sizes and have the layer; siblings share weights too.

    Raises `DoesNotFit`, and `Usage` for a layer that is not there.
    """
    recipe, target = inputs.plan.recipe, inputs.target[0]
    for files in (inputs.source[0], target):
        architectures.check(files.config, files.id)
    check_shapes(recipe.source, inputs.source[0].config, recipe.target, target.config)
    check_layers(recipe, target.config)
    for name, (files, _) in inputs.siblings.items():
        check_sibling(name, files, recipe.target, target)


def _reference(recipe: Recipe, source: tuple[Files, Files | None], workspace: Workspace) -> Path | None:
    """The adapter whose norm a random one takes: the one that is named, else the source's own."""
    if recipe.norm_of is None:
        return source[1].folder if source[1] else None
    if refs.is_path(recipe.norm_of):
        return locate(refs.Repo(recipe.norm_of), "adapter").folder
    return workspace.named.get(refs.AdapterRef.parse(recipe.norm_of)).folder


def _revisions(files: tuple[Files, Files | None]) -> list[str]:
    return [f.revision for f in files if f]
