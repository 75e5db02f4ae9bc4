"""`eval plan`: which size of an evaluation shows a difference, and what it costs; nothing is fetched or generated."""

from collections.abc import Sequence

import msgspec

from ..adapter.workspace import Workspace
from ..core.errors import Usage
from ..core.estimates import Estimate
from . import forecast as forecasting
from .plan import preview
from .question import EvalSettings, available_problems
from .sizing import SampleSize, VarianceEstimate, fewest_completions, gpu_hours, known_spread, samples_needed

SMALLEST_POINTS = 0.1
"""The smallest difference that is planned for."""


class PowerAnalysis(msgspec.Struct, frozen=True):
    benchmark: str
    available: int | None
    """Problems there are; None for a generator."""
    detect: float
    """Points."""
    spread: VarianceEstimate
    asked: SampleSize
    needed: SampleSize | None
    """On new problems of the kind, the fewest completions; None where this benchmark has too few problems for any
    number of samples.
    """
    needed_same: SampleSize
    """On these problems: samples alone."""
    arms: int
    completions: int
    """Of all arms, at the size `needed` where there is one, else `needed_same`."""
    tokens: int
    tokens_are: str
    """How the length of a completion is known."""
    gpu_hours: dict[str, float]
    """Name of a GPU -> estimated hours on one of them."""
    estimate: Estimate | None = None
    """What that size takes; None where the sizes of the model are not known."""
    left: list[str] = []
    """What is checked when it is fetched."""


def power_analysis(
    names: Sequence[str],
    target: str,
    settings: EvalSettings,
    detect: float,
    workspace: Workspace,
    force: bool = False,
    rate: float | None = None,
) -> PowerAnalysis:
    """What it takes to show `detect` points between an adapter and base. Raises as `plan.preview`."""
    if not SMALLEST_POINTS <= detect <= 100:
        raise Usage(
            f"a difference of {detect:g} points cannot be planned for",
            f"--detect between {SMALLEST_POINTS} and 100, for example 3",
        )
    seen = preview(names, target, settings, workspace, force)
    question, arms = seen.question, len(forecasting.arm_names(seen, workspace))
    adapters = [adapter for adapter in seen.stored if adapter]
    new_tokens = settings.new_tokens or question.benchmark.new_tokens
    known = known_spread(adapters, question.benchmark, target, new_tokens, workspace)
    delta, problems = detect / 100, question.count or forecasting.USUAL_PROBLEMS
    available = available_problems(question)
    needed = fewest_completions(delta, known.variance, available)
    needed_same = SampleSize.of(known.variance, problems, samples_needed(delta, known.variance, problems))
    planned = needed or needed_same
    completions = arms * planned.problems * planned.samples
    found = forecasting.estimate(question, adapters, completions, workspace, rate, forecasting.downloads(seen))
    return PowerAnalysis(
        benchmark=question.benchmark.name,
        available=available,
        detect=detect,
        spread=known.variance,
        asked=SampleSize.of(known.variance, problems, settings.samples),
        needed=needed,
        needed_same=needed_same,
        arms=arms,
        completions=completions,
        tokens=round(completions * known.tokens),
        tokens_are=known.tokens_are,
        gpu_hours={} if isinstance(found, str) else gpu_hours(question.config, completions, known.tokens),
        estimate=None if isinstance(found, str) else found,
        left=seen.left,
    )
