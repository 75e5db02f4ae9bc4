"""`eval --plan`: which size of an evaluation shows a difference, and what that size costs. Nothing is loaded, nothing is generated."""

from collections.abc import Sequence

import msgspec

from .errors import Usage
from .evaluate import Settings, plan
from .evaluation import decoding, power
from .evaluation.power import Spread
from .record import kept
from .workspace import Workspace

FEWEST_POINTS = 0.1


class Size(msgspec.Struct, frozen=True):
    """An evaluation of n problems x K samples; differences in points."""

    problems: int
    samples: int
    detects: float
    """The smallest difference shown with 80% power on new problems of the kind."""
    detects_same: float
    """The same on these problems."""


class Sizing(msgspec.Struct, frozen=True):
    benchmark: str
    available: int | None
    """Problems there are; None for a generator."""
    detect: float
    """Points."""
    spread: Spread
    asked: Size
    needed: Size | None
    """On new problems of the kind, the fewest completions; None where this benchmark has too few problems for any number of samples."""
    needed_same: Size
    """On these problems: samples alone."""
    arms: int
    completions: int
    """Of all arms, at the size `chosen`: needed where there is one, else needed_same."""
    tokens: int
    tokens_are: str
    gpu_hours: dict[str, float]
    """Name of a GPU -> estimated hours on one of them."""


def size(names: Sequence[str], target: str, settings: Settings, detect: float, home: Workspace, force: bool = False) -> Sizing:
    """What it takes to show `detect` points between an adapter and base. Raises the errors of `plan`."""
    if not FEWEST_POINTS <= detect <= 100:
        raise Usage(f"a difference of {detect:g} points cannot be planned for", f"--detect between {FEWEST_POINTS} and 100, for example 3")
    made = plan(names, target, settings, home, force)
    delta, spread, tokens, tokens_are = detect / 100, *_known(made, home)
    fixed = "full" in made.benchmark.splits
    available = len(made.benchmark.problems(made.settings.split)) if fixed else None

    def sized(problems: int, samples: int) -> Size:
        found = [100 * power.detectable(spread, problems, samples, same) for same in (False, True)]
        return Size(problems, samples, *found)

    asked = sized(len(made.problems), settings.samples)
    same = sized(len(made.problems), power.samples_needed(delta, spread, len(made.problems)))
    needed = _fewest(delta, spread, available)
    chosen = needed and sized(*needed)
    completions = len(made.arms) * (chosen or same).problems * (chosen or same).samples
    return Sizing(
        benchmark=made.benchmark.name, available=available, detect=detect, spread=spread, asked=asked, needed=chosen, needed_same=same, arms=len(made.arms),
        completions=completions, tokens=round(completions * tokens), tokens_are=tokens_are,
        gpu_hours=decoding.hours(made.target.config, completions, tokens),
    )  # fmt: skip


def _fewest(delta: float, spread: Spread, available: int | None) -> tuple[int, int] | None:
    """(problems, samples) of the fewest completions, at least two samples, within the problems there are."""
    sizes = [(power.problems_needed(delta, spread, samples), samples) for samples in range(2, 65)]
    fitting = [(problems, samples) for problems, samples in sizes if available is None or problems <= available]
    if fitting:
        return min(fitting, key=lambda size: size[0] * size[1])
    more = power.samples_needed_new(delta, spread, available) if available else None
    return (available, more) if available and more and more <= 1_024 else None


def _known(made, home: Workspace) -> tuple[Spread, float, str]:
    """(spread, mean tokens of a completion, what these tokens are): from an evaluation beside one of the adapters, else from the scores that are published."""
    for adapter, _ in made.adapters.values():
        for found in reversed(kept(adapter)):
            told = {"problems", "samples", "gain_ci", "gain_ci_same_problems", "gain", "arms"}
            own = not found.get("harness") and (found.get("benchmark"), found.get("target")) == (made.benchmark.name, made.target_name)
            if own and found.keys() >= told and found["samples"] > 1:
                new, same = ((found[ci][1] - found[ci][0]) / 200 for ci in ("gain_ci", "gain_ci_same_problems"))
                tokens = max(arm["tokens"] for arm in found["arms"])
                return Spread.measured(new, same, found["problems"], found["samples"]), tokens, f"{tokens:.0f} a completion, measured"
    published = home.registry.entries["published"]
    for name in (f"{made.target_name}-10-seeds", made.target_name):
        score = published[name].value.scores.get(made.benchmark.name) if name in published else None
        if score is not None:
            return Spread.assumed(score / 100, name), made.asked.new_tokens, "at most: the whole budget of every completion"
    return Spread.assumed(None), made.asked.new_tokens, "at most: the whole budget of every completion"
