"""`sweep`: one adapter a layer (and seed), judged on development problems, and whether layers differ beyond noise."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from ..adapter.results import Evaluation
from ..adapter.workspace import Workspace, WorkspaceLike
from ..config.registry import Registry
from ..config.schema import numbers
from ..core.errors import Usage
from ..core.executors import run
from ..core.progress import Progress
from ..core.strict import canonical_digest, non_default_values
from ..evaluation.evaluate import EvalSettings, answers, evaluate
from .extract import extract, pretrain_saes
from .plan import Plan, plan

NOISE = 0.05
"""p above which a curve is not told from noise."""


class SweepPoint(msgspec.Struct, frozen=True):
    """One point of the curve: gains in points over base."""

    layer: int
    seed: int
    adapter: str
    gain: float
    gain_ci: tuple[float, float]
    verdict: str
    controls: tuple[float, ...]
    """Gains of the random adapters of equal norm."""


class Sweep(msgspec.Struct, frozen=True):
    method: str
    source: str
    target: str
    benchmark: str
    split: str
    problems: int
    samples: int
    source_gain: float | None
    places: list[SweepPoint]
    p_adapters: float | None
    """All adapters answer alike on these problems."""
    p_layers: float | None
    """Layers do not matter, against the spread of seeds; null for one seed a layer."""
    sentence: str
    plot: str


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
        return numbers(layers), recipe
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
    return numbers(layers) if layers else family.numbers, family.recipe


def sweep(
    source: str | None = None,
    *,
    layers: Sequence[int],
    seeds: int = 1,
    family: str | None = None,
    judging: EvalSettings = EvalSettings(split="dev", problems=200, samples=2, seeds=1, greedy=False),
    executor: str = "local",
    workspace: WorkspaceLike = None,
    progress: Progress | None = None,
    **choices: Any,
) -> Sweep:
    """Extract one adapter a layer and seed, evaluate all on the target, draw the curve. What was made before is taken:
    it resumes by itself.

    family and choices: as in `planned`. The problems are those of the development split unless `judging` says
    otherwise, for a layer that was picked on test problems would be judged on them too. Raises the errors of `extract`
    and `evaluate`.
    """
    workspace, progress, judging = (
        Workspace.find(workspace),
        progress or Progress(),
        replace(judging, purpose="choosing"),
    )
    if not layers or seeds < 1:
        raise Usage("a sweep needs at least one layer and one seed", "--layers 0-3 --seeds 1")
    plans = planned(source, layers=layers, seeds=seeds, family=family, registry=workspace.registry, **choices)
    grid, target = list(plans), next(iter(plans.values())).recipe.target
    quiet = progress.quiet or executor != "local"
    together = [
        [made for (_, at), made in plans.items() if at == seed] for seed in dict.fromkeys(seed for _, seed in grid)
    ]
    list(run([functools.partial(_prepare, workspace.folder, part, quiet) for part in together], executor))
    tasks = [functools.partial(_extract, workspace.folder, made, quiet) for made in plans.values()]
    names: dict[tuple[int, int], str] = {}
    with progress.stage("sweep", len(tasks), "adapters") as advance:
        for place, name in run(tasks, executor):
            names[grid[place]] = name
            advance(1)
    ordered = [names[at] for at in grid]
    judged = dict(
        zip(
            grid,
            evaluate(ordered, target=target, settings=judging, workspace=workspace.folder, progress=progress),
            strict=True,
        )
    )
    return _report(plans, names, judged, ordered, target, judging, workspace)


def planned(
    source: str | None = None,
    *,
    layers: Sequence[int],
    seeds: int = 1,
    family: str | None = None,
    registry: Registry,
    **choices: Any,
) -> dict[tuple[int, int], Plan]:
    """The plan of every layer and seed, from the seed that is given or the recipe's own on.

    choices: those of `plan`, `layer` aside. family: the sweep of the registry that this is; where nothing else is
    chosen, its adapters bear the names of its recipes, and the seeds are versions.
    """
    first, known = choices.pop("seed", None), registry.get("sweeps", family).numbers if family else []
    untouched = not source and not any(value for key, value in choices.items() if key != "recipe")
    found = {}
    for layer in layers:
        own: dict[str, Any] = choices | {"layer": layer}
        if untouched and layer in known:
            own = {"recipe": f"{family}{layer}", "name": f"{family}{layer}"}
        begin = plan(source, registry=registry, **own).recipe.seed if first is None else first
        found |= {
            (layer, seed): plan(source, seed=seed, registry=registry, **own) for seed in range(begin, begin + seeds)
        }
    return found


def _prepare(folder: Path, plans: list[Plan], quiet: bool) -> int:
    """One task a seed: the SAEs of all layers from one pass of the model."""
    return pretrain_saes(plans, workspace=folder, progress=Progress(quiet=quiet))


def _extract(folder: Path, made: Plan, quiet: bool) -> str:
    """One task: it can run in another process or on another machine that sees the same folder."""
    adapter, _ = extract(made=made, workspace=folder, progress=Progress(quiet=quiet))
    return adapter.manifest.reference


def _report(
    plans: dict,
    names: dict[tuple[int, int], str],
    judged: dict[tuple[int, int], Evaluation],
    ordered: list[str],
    target: str,
    settings: EvalSettings,
    workspace: Workspace,
) -> Sweep:
    from . import curve

    places = [_place(layer, seed, names[layer, seed], found) for (layer, seed), found in judged.items()]
    tables = answers(ordered, target, settings, workspace)
    layers = list(dict.fromkeys(layer for layer, _ in judged))
    difference = curve.differ([[tables[names[layer, seed]] for at, seed in judged if at == layer] for layer in layers])
    one, found = next(iter(plans.values())), next(iter(judged.values()))
    digest = canonical_digest(
        [[non_default_values(p.recipe) for p in plans.values()], found.benchmark, found.split]
    ).partition(":")[2][:8]
    folder = workspace.cache / "sweeps"
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{one.recipe.source.rpartition('/')[2]}-{one.recipe.method}-{digest}"
    title = f"{one.recipe.method} from {one.recipe.source} on {target}, {found.benchmark} ({found.split})"
    points = [curve.Point(p.layer, p.gain, *p.gain_ci, p.controls) for p in places]
    curve.draw(points, found.source_gain, title, folder / f"{name}.png")
    made = Sweep(
        method=one.recipe.method,
        source=one.recipe.source,
        target=target,
        benchmark=found.benchmark,
        split=found.split,
        problems=found.problems,
        samples=found.samples,
        source_gain=found.source_gain,
        places=places,
        p_adapters=difference.adapters if difference else None,
        p_layers=difference.layers if difference else None,
        sentence=_sentence(places, difference, found.split),
        plot=str(folder / f"{name}.png"),
    )
    (folder / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n")
    return made


def _place(layer: int, seed: int, name: str, found: Evaluation) -> SweepPoint:
    base = next(arm.score for arm in found.arms if arm.role == "base")
    controls = tuple(arm.score - base for arm in found.arms if arm.role == "random")
    return SweepPoint(layer, seed, name, found.gain, found.gain_ci, found.verdict, controls)


def _sentence(places: list[SweepPoint], difference: Any, split: str) -> str:
    best = max(places, key=lambda place: place.gain)
    if difference is None:
        return "A single layer: nothing to compare."
    spread = f"gains from {min(p.gain for p in places):+.1f} to {best.gain:+.1f} points"
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
