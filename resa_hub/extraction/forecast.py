"""What an extraction will take, and whether it was made before: told before anything is fetched."""

from typing import NamedTuple

from ..adapter.workspace import Workspace
from ..config.schema import Dataset
from ..core.estimates import Estimate
from ..data import datasets
from ..data.at_hand import is_local
from ..data.saes import check_before_fetching
from .checks import check
from .estimate import estimate
from .extract import check_resumable
from .inputs import Inputs, gather_inputs
from .plan import Plan
from .run import ResourceLimits


class ExtractionForecast(NamedTuple):
    plan: Plan
    estimate: Estimate | str
    """Or why there is none."""
    left: list[str]
    """What is checked when it is fetched."""
    present: str
    """The adapter that this plan made before; empty without one."""


def forecast(
    plan: Plan,
    workspace: Workspace,
    limits: ResourceLimits = ResourceLimits(),
    *,
    again: bool = False,
    resume: bool = False,
) -> ExtractionForecast:
    """Raises what the run itself raises, as far as it is known."""
    left = check(plan, workspace)
    limits.check(plan.recipe.method)
    inputs = local_inputs(plan, workspace)
    found = workspace.store.with_recipe(inputs.digest, plan.name) if inputs else None
    if inputs and resume and (again or not found):
        check_resumable(inputs, workspace)
    there = found.manifest.reference if found else ""
    return ExtractionForecast(plan, estimate(plan, workspace.registry, limits.rate), left, there)


def local_inputs(plan: Plan, workspace: Workspace) -> Inputs | None:
    """What the plan starts from; None where the Hub would have to be asked."""
    models = [plan.source, plan.target, *plan.siblings.values()]
    repos = [repo for ref in models for repo in (ref.base, ref.adapter) if repo]
    near = all(map(is_local, repos)) and all(_is_near(entry) for entry in (plan.trigger, plan.elicit))
    return gather_inputs(plan, workspace) if near and not _sae_is_far(plan, workspace) else None


def _sae_is_far(plan: Plan, workspace: Workspace) -> bool:
    """Whether the SAE that stage I starts from has to be fetched."""
    return check_before_fetching(plan.recipe, workspace.registry).to_fetch


def _is_near(entry: Dataset) -> bool:
    return entry.id == datasets.TINY or datasets.is_local(entry)
