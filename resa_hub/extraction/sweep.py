"""`sweep`: one adapter a layer (and seed), judged on development problems, and whether layers differ beyond noise."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ..adapter.results import MODEL_SELECTION, Evaluation, Sweep, SweepPoint
from ..adapter.workspace import Workspace, WorkspaceLike
from ..config.methods import METHODS
from ..config.registry import Registry
from ..config.schema import parse_numbers
from ..core.errors import Usage
from ..core.executors import run_tasks
from ..core.progress import Progress
from ..core.strict import canonical_digest, non_default_values
from ..evaluation.evaluate import evaluate, stored_scores
from ..evaluation.plan import EvalSettings
from .extract import extract, pretrain_saes
from .layer_differences import LayerDifference, differ, draw
from .plan import Plan, plan
from .run import ResourceLimits
from .sweep_plan import check_sweep

MOST_SEEDS = 100
NOISE = 0.05
"""p above which a curve is not told from noise."""


class GridPoint(NamedTuple):
    """One adapter of a sweep."""

    layer: int
    seed: int


def named(name: str | None, layers: str | None, recipe: str | None, registry: Registry) -> tuple[list[int], str | None]:
    """(layers, recipe) of a sweep of the registry, or as they are given; raises `Usage` for one that is not over
    layers.
    """
    if not name:
        if not layers:
            raise Usage(
                "nothing says which layers to go over",
                "give --layers 1-26, or the name of a sweep: `resa-hub registry sweeps`",
            )
        return parse_numbers(layers), recipe
    family = registry.get("sweeps", name)
    if family.vary != "hookpoint" or family.value != "layers.{N}":
        one = registry.sweep_recipes(name)[0]
        raise Usage(
            f"the sweep {name} varies {family.vary} over {family.value}, which makes no curve over layers",
            f"extract --recipe {one}, and so on",
        )
    if recipe:
        raise Usage(
            f"the sweep {name} has a recipe of its own, {family.recipe}",
            "leave out --recipe, or give --layers instead of a name",
        )
    return parse_numbers(layers) if layers else family.numbers, family.recipe


def sweep(
    source: str | None = None,
    *,
    layers: Sequence[int],
    seeds: int = 1,
    family: str | None = None,
    judging: EvalSettings = EvalSettings(split="dev", problems=200, samples=2, seeds=1, greedy=False),
    executor: str = "local",
    keep_saes: bool = False,
    workspace: WorkspaceLike = None,
    progress: Progress | None = None,
    **choices: Any,
) -> Sweep:
    """Extract one adapter a layer and seed, evaluate all on the target, draw the curve. What was made before is taken:
    it resumes by itself.

    family and choices: as in `planned`. keep_saes: with each adapter, which takes by far the most disk. The problems
    are those of the development split unless `judging` says otherwise, for a layer that was picked on test problems
    would be judged on them too. Raises the errors of `extract` and `evaluate`.
    """
    workspace, progress = Workspace.find(workspace), progress or Progress()
    judging = replace(judging, purpose=MODEL_SELECTION)
    plans = planned(source, layers=layers, seeds=seeds, family=family, registry=workspace.registry, **choices)
    check_sweep(plans, judging, executor, workspace)
    names = _adapters(plans, executor, keep_saes, workspace, progress)
    target = next(iter(plans.values())).recipe.target
    results = evaluate(names, target=target, settings=judging, workspace=workspace.folder, progress=progress)
    scores = stored_scores(names, target, judging, workspace)
    by_layer = {at.layer: [] for at in plans}
    for at, name in zip(plans, names, strict=True):
        by_layer[at.layer].append(scores[name])
    return _report(plans, dict(zip(plans, results, strict=True)), differ(list(by_layer.values())), workspace)


def _adapters(
    plans: dict[GridPoint, Plan], executor: str, keep_saes: bool, workspace: Workspace, progress: Progress
) -> list[str]:
    """The reference of each adapter, in the order of the plans; those that are not there yet are extracted."""
    folder, quiet = workspace.folder, progress.quiet or executor != "local"
    seeds = dict.fromkeys(at.seed for at in plans)
    of_seed = [[plan for at, plan in plans.items() if at.seed == seed] for seed in seeds]
    list(run_tasks([functools.partial(_prepare, folder, part, quiet) for part in of_seed], executor))
    tasks = [functools.partial(_extract, folder, plan, keep_saes, quiet) for plan in plans.values()]
    names: dict[int, str] = {}
    with progress.stage("sweep", len(tasks), "adapters") as advance:
        for number, name in run_tasks(tasks, executor):
            names[number] = name
            advance(1)
    return [names[number] for number in range(len(tasks))]


def planned(
    source: str | None = None,
    *,
    layers: Sequence[int],
    seeds: int = 1,
    family: str | None = None,
    registry: Registry,
    **choices: Any,
) -> dict[GridPoint, Plan]:
    """The plan of every layer and seed, from the seed that is given or the recipe's own on.

    choices: those of `plan`, `layer` aside. family: the sweep of the registry that this is; where nothing else is
    chosen, its adapters bear the names of its recipes, and the seeds are versions.
    """
    if not layers or not 1 <= seeds <= MOST_SEEDS:
        raise Usage(f"a sweep needs at least one layer and 1 to {MOST_SEEDS} seeds", "--layers 0-3 --seeds 1")
    first, known = choices.pop("seed", None), registry.get("sweeps", family).numbers if family else []
    untouched = not source and not any(value for key, value in choices.items() if key != "recipe")
    plans = {}
    for layer in layers:
        wanted: dict[str, Any] = choices | {"layer": layer}
        if untouched and layer in known:
            wanted = {"recipe": f"{family}{layer}", "name": f"{family}{layer}"}
        begin = plan(source, registry=registry, **wanted).recipe.seed if first is None else first
        for seed in range(begin, begin + seeds):
            plans[GridPoint(layer, seed)] = plan(source, seed=seed, registry=registry, **wanted)
    return plans


def _prepare(folder: Path, plans: list[Plan], quiet: bool) -> int:
    """One task a seed: the SAEs of all layers from one pass of the model."""
    return pretrain_saes(plans, workspace=folder, progress=Progress(quiet=quiet))


def _extract(folder: Path, plan: Plan, keep_saes: bool, quiet: bool) -> str:
    """One task: it can run in another process or on another machine that sees the same folder."""
    limits = ResourceLimits(keep_sae=keep_saes or not METHODS[plan.recipe.method].sae)
    adapter, _ = extract(plan=plan, workspace=folder, limits=limits, progress=Progress(quiet=quiet))
    return adapter.manifest.reference


def _report(
    plans: dict[GridPoint, Plan],
    results: dict[GridPoint, Evaluation],
    difference: LayerDifference | None,
    workspace: Workspace,
) -> Sweep:
    """The sweep with its plot, both kept in the workspace's cache."""
    recipe, first = next(iter(plans.values())).recipe, next(iter(results.values()))
    path = _path(plans, first, workspace)
    points = [_point(at, result) for at, result in results.items()]
    title = f"{recipe.method} from {recipe.source} on {recipe.target}, {first.benchmark} ({first.split})"
    draw(points, first.source_gain, title, path.with_suffix(".png"))
    sweep = Sweep(
        method=recipe.method,
        source=recipe.source,
        target=recipe.target,
        benchmark=first.benchmark,
        split=first.split,
        problems=first.problems,
        samples=first.samples,
        source_gain=first.source_gain,
        places=points,
        p_adapters=difference.adapters if difference else None,
        p_layers=difference.layers if difference else None,
        sentence=_sentence(points, difference, first.split),
        plot=str(path.with_suffix(".png")),
    )
    path.write_bytes(msgspec.json.format(msgspec.json.encode(sweep), indent=2) + b"\n")
    return sweep


def _path(plans: dict[GridPoint, Plan], first: Evaluation, workspace: Workspace) -> Path:
    """One file for each question that a sweep answers; its folder is there."""
    recipes = [plan.recipe for plan in plans.values()]
    question = [[non_default_values(recipe) for recipe in recipes], first.benchmark, first.split]
    digest = canonical_digest(question).partition(":")[2][:8]
    folder = workspace.cache / "sweeps"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{recipes[0].source.rpartition('/')[2]}-{recipes[0].method}-{digest}.json"


def _point(at: GridPoint, result: Evaluation) -> SweepPoint:
    base = next(arm.score for arm in result.arms if arm.role == "base")
    return SweepPoint(
        layer=at.layer,
        seed=at.seed,
        adapter=result.adapter,
        gain=result.gain,
        gain_ci=result.gain_ci,
        verdict=result.verdict,
        controls=tuple(arm.score - base for arm in result.arms if arm.role == "random"),
    )


def _sentence(points: list[SweepPoint], difference: LayerDifference | None, split: str) -> str:
    """Whether layers differ, and which is first where they do."""
    if difference is None:
        return "A single layer: nothing to compare."
    best, worst = max(points, key=lambda p: p.gain), min(points, key=lambda p: p.gain)
    spread = f"gains from {worst.gain:+.1f} to {best.gain:+.1f} points"
    if difference.adapters > NOISE:
        return (
            f"The adapters are not distinguishable from each other (p = {difference.adapters:.2g}): {spread}. "
            "The curve shows noise; no layer is the best."
        )
    if difference.layers is None:
        return (
            f"The adapters differ (p = {difference.adapters:.2g}): {spread}, layer {best.layer} first. One "
            "seed a layer: "
            "this holds for these adapters; give --seeds 3 to learn whether it holds for the layers."
        )
    if difference.layers > NOISE:
        return (
            "The adapters differ, but layers do not beyond the spread of the seeds (p = "
            f"{difference.layers:.2g}): {spread}. No layer is shown to be the best."
        )
    return (
        f"Layers differ beyond the spread of the seeds (p = {difference.layers:.2g}): {spread}, layer "
        f"{best.layer} first on the {split} problems. "
        f"Judge the chosen one on problems that were not used to choose it."
    )
