"""Making: `extract`, `sweep`, `reproduce`."""

from collections.abc import Sequence
from typing import Any

from ..adapter.results import Sweep
from ..adapter.store import Adapter
from ..adapter.workspace import Workspace, WorkspaceLike
from ..core.errors import Usage
from ..core.progress import Progress
from ..evaluation.plan import EvalSettings
from ..extraction import extract as extraction
from ..extraction import reproduce as reproduction
from ..extraction import sweep as sweeps
from ..extraction.plan import Plan
from ..extraction.plan import plan as resolve
from ..extraction.reproduce import Reproduced
from ..extraction.run import ResourceLimits
from ..extraction.sweep_plan import usual_judging
from ..extraction.used_settings import check_used
from .choices import JUDGING, AdapterLike, eval_settings, reference
from .given import given, knows_given

GB = 1e9
RECIPE = ("target", "data", "trigger", "elicit", "layer", "features", "scale", "method", "recipe", "name", "seed")
RECIPE += ("settings",)
"""The keywords of `extract` that say what is made."""


@knows_given
def extract(
    source: str | None = None,
    *,
    target: str | None = None,
    data: str | None = None,
    trigger: str | None = None,
    elicit: str | None = None,
    layer: int | str | None = None,
    features: int | str | None = None,
    scale: float | str | None = None,
    method: str | None = None,
    recipe: str | None = None,
    name: str | None = None,
    seed: int | None = None,
    settings: Sequence[str] = (),
    again: bool = False,
    resume: bool = False,
    cache_gb: float | None = None,
    disk_gb: float = 0,
    sae: bool = True,
    rate: float | None = None,
    plan: Plan | None = None,
    workspace: WorkspaceLike = None,
    progress: Progress | None = None,
) -> tuple[Adapter, bool]:
    """Make an adapter from a source model; the keywords are the options of `extract`.

    Returns the adapter and whether it was made now: a finished recipe is not run twice unless `again`. layer, features
    and scale may be `auto`: chosen by the screen. settings: `key=value` of the recipe, as
    `training.learning_rate=1e-4`. plan: one that was resolved before, in place of what stands before it. cache_gb: GB
    of memory for the teacher's states; None takes half of what is free. disk_gb: GB of disk for activations. sae: keep
    the adapter's SAE. rate: USD an hour of this machine.

    A run that was interrupted goes on where it stood; resume: go on or fail. Raises `Usage`, `NotFound`, `DoesNotFit`,
    `NoEffect`, `RunFailed`, and `Conflict` while another process runs the same.
    """
    choices = given(locals(), RECIPE)
    if plan and (source or choices):
        raise Usage("a plan says everything already", "leave out plan, or source and the choices of the recipe")
    memory = None if cache_gb is None else int(cache_gb * GB)
    limits = ResourceLimits(memory=memory, disk=int(disk_gb * GB), rate=rate, keep_sae=sae)
    opened = Workspace.find(workspace)
    run = {"workspace": opened, "again": again, "resume": resume, "limits": limits, "progress": progress}
    if not plan:
        plan = resolve(source, registry=opened.registry, **choices)
        check_used(plan.recipe, list(choices))
    return extraction.extract(plan=plan, **run)


@knows_given
def sweep(
    source: str | None = None,
    *,
    name: str | None = None,
    layers: str | Sequence[int] | None = None,
    target: str | None = None,
    data: str | None = None,
    method: str | None = None,
    recipe: str | None = None,
    seeds: int = 1,
    settings: Sequence[str] = (),
    benchmark: str = "tiny-chain",
    problems: int = 200,
    samples: int = 2,
    controls: int = 1,
    split: str = "dev",
    new_tokens: int | None = None,
    executor: str = "local",
    sae: bool = False,
    judging: EvalSettings | None = None,
    workspace: WorkspaceLike = None,
    progress: Progress | None = None,
) -> Sweep:
    """Extract at many layers, judge every adapter, and say whether layers differ at all.

    name: a sweep of the registry; else give `layers`, as `1-26` or numbers. seeds: adapters a layer. settings: as in
    `extract`. sae: keep the SAE of each adapter. benchmark to split: how they are judged; judging: the same as a value,
    which a keyword that is written beats. What was made before is taken. Gains are in points over base. Raises the
    errors of `extract` and `evaluate`.
    """
    options = given(locals(), JUDGING)
    opened = Workspace.find(workspace)
    text = layers if isinstance(layers, str) or layers is None else ",".join(map(str, layers))
    numbers, recipe = sweeps.named(name, text, recipe, opened.registry)
    recipes = {"target": target, "data": data, "method": method, "recipe": recipe, "settings": list(settings)}
    places: dict[str, Any] = {"layers": numbers, "seeds": seeds, "family": name}
    usual = EvalSettings(split="dev", problems=200, samples=2, seeds=1, greedy=False)
    chosen = eval_settings(judging or usual, options)
    if not judging:
        plans = sweeps.planned(source, registry=opened.registry, **places, **recipes)
        chosen = usual_judging(plans, chosen, options, opened)
    run = {"judging": chosen, "executor": executor, "keep_saes": sae, "workspace": opened, "progress": progress}
    return sweeps.sweep(source, **places, **run, **recipes)


def reproduce(
    name: AdapterLike,
    *,
    judge: bool = False,
    keep: bool = False,
    workspace: WorkspaceLike = None,
    progress: Progress | None = None,
) -> Reproduced:
    """Make an adapter again from its manifest: the same bytes, or what differs and how far.

    judge: also evaluate the new one wherever the old one was. keep: leave the workspace in which it was made again.
    Raises `Usage` for an imported adapter, and the errors of `extract`.
    """
    return reproduction.reproduce(reference(name), judge=judge, keep=keep, workspace=workspace, progress=progress)
