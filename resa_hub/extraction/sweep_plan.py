"""What a sweep takes, and what is known to stand in its way, before anything is fetched or trained."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from ..adapter.workspace import Workspace
from ..core.estimates import Estimate, together
from ..core.executors import check_executor
from ..evaluation import forecast
from ..evaluation.question import EvalSettings, Question, ask, at_most, check_usual_benchmark
from .checks import check
from .estimate import estimate
from .forecast import local_inputs
from .plan import Plan


class SweepForecast(NamedTuple):
    made: list[str]
    """Adapters that are there already."""
    estimate: Estimate | str
    """Of the adapters that are missing and of their evaluations; or why there is none."""
    left: list[str]
    """What is checked when it is fetched."""


def usual_judging(
    plans: Mapping[Any, Plan], judging: EvalSettings, written: Collection[str], workspace: Workspace
) -> EvalSettings:
    """The settings where `benchmark` or `problems` is not `written` by a person: as many problems as there are, up to
    the usual number. Raises `Usage` where the usual benchmark says nothing about the target.
    """
    target = next(iter(plans.values())).recipe.target
    if "benchmark" not in written:
        check_usual_benchmark(target, workspace)
    if "problems" in written or judging.problems is None:
        return judging
    return at_most(judging.problems, target, judging, workspace)


def check_sweep(
    plans: Mapping[Any, Plan], judging: EvalSettings, executor: str, workspace: Workspace
) -> tuple[Question, dict[Any, list[str]]]:
    """(what the adapters are asked, what of each plan is checked when it is fetched). Raises what the sweep itself
    raises, as far as it is known.
    """
    check_executor(executor)
    question = ask(next(iter(plans.values())).recipe.target, judging, workspace)
    return question, {at: check(plan, workspace) for at, plan in plans.items()}


def forecast_sweep(
    plans: Mapping[Any, Plan], judging: EvalSettings, executor: str, workspace: Workspace, rate: float | None = None
) -> SweepForecast:
    """Raises as `check_sweep`. Every adapter is judged beside base, source and its controls."""
    question, left = check_sweep(plans, judging, executor, workspace)
    made = {at: _made(plan, workspace) for at, plan in plans.items()}
    missing = [plan for at, plan in plans.items() if not made[at]]
    arms = 2 + len(plans) * (1 + judging.seeds)
    parts = [estimate(plan, workspace.registry, rate) for plan in missing]
    parts.append(forecast.unmade(arms, question, workspace, rate))
    why = next((part for part in parts if isinstance(part, str)), None)
    told = [part for part in parts if isinstance(part, Estimate)]
    names = [name for name in made.values() if name]
    return SweepForecast(
        names, why or together(told), list(dict.fromkeys(item for items in left.values() for item in items))
    )


def _made(plan: Plan, workspace: Workspace) -> str:
    """The adapter that this plan made before; empty without one."""
    inputs = local_inputs(plan, workspace)
    found = workspace.store.with_recipe(inputs.digest, plan.name) if inputs else None
    return found.manifest.reference if found else ""
