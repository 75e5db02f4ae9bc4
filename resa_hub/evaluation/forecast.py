"""What an evaluation will take, told before anything is fetched or generated: the answers that are missing, time and
price on named GPUs and here, memory, downloads.
"""

import contextlib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..adapter.store import Adapter
from ..adapter.workspace import Workspace
from ..config.refs import ModelRef
from ..core.estimates import Download, Estimate, StageCost, offer, offer_here
from ..core.flops import Shapes
from ..core.gpus import CPU_UTILISATION, GPUS, MAIN_MEMORY, Gpu, fits_main_memory, gpu_here, measured_speed
from ..data.at_hand import at_hand
from . import sizing
from .arms import BASE, NEGATED, PROMPT, RANDOM, SOURCE, SOURCE_MODEL, Arm, arm_kinds, source_errors
from .benchmarks.table_benchmark import Table
from .plan import EvaluationPlan, Preview, complete, preview
from .question import EvalSettings, Question
from .sampling.collect import missing_samples
from .sampling.jobs import SamplingConfig
from .sampling.samples import SampleStore

LAUNCH, GPU_LAUNCH = 3e-4, 3e-5
"""Seconds that a layer's pass takes at least, for a whole batch: what small models spend most on."""
START = 10.0
"""Seconds until an engine stands, and until its answers are judged."""
USUAL_PROBLEMS = 500
"""Where nobody knows how many there are."""


class ArmForecast(NamedTuple):
    name: str
    role: str
    model: str
    completions: int
    """Answers that it gives in all."""
    missing: int
    """Of these, the ones that are yet to be generated."""


class Forecast(NamedTuple):
    preview: Preview
    arms: list[ArmForecast]
    estimate: Estimate | str
    """Or why there is none."""

    @property
    def missing(self) -> int:
        return sum(arm.missing for arm in self.arms)


class Cost(NamedTuple):
    """What decides how long answers take."""

    config: dict[str, Any]
    """Of the model."""
    completions: int
    tokens: float
    """Mean of a completion."""
    note: str
    """How that is known."""
    bytes: int
    """Of a number."""


def forecast(
    names: Sequence[str],
    target: str,
    settings: EvalSettings,
    workspace: Workspace,
    force: bool = False,
    rate: float | None = None,
) -> Forecast:
    """Raises as `plan.preview`: all that can be known without fetching. rate: USD an hour, instead of known prices."""
    seen = preview(names, target, settings, workspace, force)
    question = seen.question
    planned = _planned(seen, workspace)
    if planned:
        arms = _missing(planned, workspace)
    else:
        each = (question.count or USUAL_PROBLEMS) * (settings.samples + settings.greedy)
        arms = [ArmForecast(*arm, each, each) for arm in _outlined(seen)]
    adapters = [each for each in seen.stored if each] or [each.adapter for each in seen.fitted or ()]
    missing = sum(arm.missing for arm in arms)
    return Forecast(seen, arms, estimate(question, adapters, missing, workspace, rate, downloads(seen)))


def unmade(arms: int, question: Question, workspace: Workspace, rate: float | None = None) -> Estimate | str:
    """The same of adapters that are not there yet, with so many arms in all."""
    each = (question.count or USUAL_PROBLEMS) * (question.settings.samples + question.settings.greedy)
    return estimate(question, [], arms * each, workspace, rate, _of_question(question))


def arm_names(seen: Preview, workspace: Workspace) -> list[str]:
    planned = _planned(seen, workspace)
    return [arm.name for arm in planned.arms] if planned else [name for name, _, _ in _outlined(seen)]


def estimate(
    question: Question,
    adapters: Sequence[Adapter],
    completions: int,
    workspace: Workspace,
    rate: float | None,
    downloads: list[Download],
) -> Estimate | str:
    """Of so many completions by models of the target's sizes; or why there is none. adapters: whose earlier evaluations
    tell how long an answer is.
    """
    shapes = Shapes.of(question.config)
    if shapes is None:
        return f"the sizes of {question.target_name} are not known here: give its registry entry a `config`"
    new_tokens = question.settings.new_tokens or question.benchmark.new_tokens
    known = sizing.known_spread(adapters, question.benchmark, question.target_name, new_tokens, workspace)
    here = gpu_here()
    wide = question.settings.engines.dtype == "float32" or (question.settings.engines.dtype == "auto" and here is None)
    cost = Cost(question.config, completions, known.tokens, known.tokens_are, 4 if wide else 2)
    memory = _memory(cost, shapes)
    needed = sum(memory.values())
    tokens = round(completions * cost.tokens)
    stage = StageCost(
        "answers",
        steps=completions,
        tokens=tokens,
        operations=2.0 * (shapes.sizes.all + shapes.sizes.head) * tokens,
        passes=math.ceil(completions / sizing.MAX_BATCH) * round(cost.tokens) * shapes.depth,
        decoding=True,
    )
    least = (stage.passes * GPU_LAUNCH + START) / 3600
    hours = {name: each + least for name, each in sizing.gpu_hours(cost.config, completions, cost.tokens).items()}
    offers = [offer(gpu, hours.get(gpu.name), 0 if gpu.name in hours else needed, rate) for gpu in GPUS]
    if completions == 0:
        offers = [offer(gpu, 0.0, needed, rate) for gpu in GPUS]
    if here is None:
        offers.append(offer_here("CPU", _cpu_hours(stage) if completions else 0.0, rate, fits_main_memory(needed)))
    else:
        offers.append(_on_this_gpu(here, hours, rate))
    notes = [
        f"tokens: {cost.note}",
        "answers: on a GPU by the bandwidth of its memory, on a CPU by operations, within a factor of two; downloads "
        "are not in it",
        *([MAIN_MEMORY] if here is None else []),
    ]
    return Estimate(stages=[stage], memory=memory, offers=offers, notes=notes, downloads=downloads)


def _cpu_hours(stage: StageCost) -> float:
    """Measures this machine, which takes half a second."""
    return (stage.operations / (CPU_UTILISATION * measured_speed()) + stage.passes * LAUNCH + START) / 3600


def _on_this_gpu(here: tuple[str, Gpu | None], hours: dict[str, float], rate: float | None) -> Any:
    name, gpu = here
    return offer_here(name, hours.get(gpu.name) if gpu else None, rate, gpu.name in hours if gpu else None)


def _memory(cost: Cost, shapes: Shapes) -> dict[str, int]:
    """Bytes on the device that are needed at least; the more answers there is room for at once, the faster."""
    cache = sizing.cache_entries_per_token(cost.config) * round(cost.tokens) * cost.bytes
    return {"weights": shapes.parameters * cost.bytes, "key-value cache of one answer": cache}


def _planned(seen: Preview, workspace: Workspace) -> EvaluationPlan | None:
    """The plan itself, where everything that it needs is here."""
    question = seen.question
    if seen.fitted is None or question.files is None or question.problems is None:
        return None
    sources = [each.adapter.manifest.source for each in seen.fitted if each.adapter.manifest.source]
    needed = SOURCE in arm_kinds(question.settings.arms)
    if needed and any(_absent_source(source) for source in sources):
        return None
    return complete(question, question.files, seen.fitted, workspace)


def _absent_source(source: str) -> list[Download]:
    with source_errors(source):
        return _absent(ModelRef.parse(source))


def _absent(ref: ModelRef) -> list[Download]:
    """What of a model has yet to be fetched."""
    repos = [(ref.base, "model"), *([(ref.adapter, "adapter")] if ref.adapter else [])]
    return [Download(str(repo), None) for repo, what in repos if at_hand(repo, what) is None]


def _missing(plan: EvaluationPlan, workspace: Workspace) -> list[ArmForecast]:
    config = plan.sampling._replace(engines=plan.settings.engines.settled(plan.target))
    with contextlib.closing(SampleStore(workspace.cache)) as store:
        return [_of_arm(config, arm, store) for arm in plan.arms]


def _of_arm(config: SamplingConfig, arm: Arm, store: SampleStore) -> ArmForecast:
    total = len(config.problems) * (config.samples + config.greedy)
    made = arm.folder is None or arm.folder.exists()  # a control that was never made has no identity
    missing = len(missing_samples(config, arm, store)) if made else total
    return ArmForecast(arm.name, arm.role, arm.base.id, total, missing)


def _outlined(seen: Preview) -> list[tuple[str, str, str]]:
    """(name, role, model) of the arms, as far as they can be told while something is not here."""
    question = seen.question
    kinds, target = arm_kinds(question.settings.arms), question.target.base.id
    arms = [(BASE, BASE, target)]
    stored = [adapter for adapter in seen.stored if adapter]
    if SOURCE in kinds and (source := next((a.manifest.source for a in stored), "")):
        ref = ModelRef.parse(source)
        arms.append((SOURCE, SOURCE, target if ref.adapter else ref.base.id))
        if ref.adapter and ref.base.id != target:
            arms.append((SOURCE_MODEL, SOURCE_MODEL, ref.base.id))
    arms += [(PROMPT, PROMPT, target)] if PROMPT in kinds else []
    for choice, adapter in zip(seen.choices, seen.stored, strict=True):
        label = adapter.manifest.reference if adapter else choice.name or "(the one that fits)"
        arms.append((label, "adapter", target))
        controls = range(1, question.settings.seeds + 1) if RANDOM in kinds else ()
        arms += [(f"{label} random-{seed}", RANDOM, target) for seed in controls]
        arms += [(f"{label} negated", NEGATED, target)] if NEGATED in kinds else []
    return arms


def _of_question(question: Question) -> list[Download]:
    """Target and problems."""
    shapes, found = Shapes.of(question.config), []
    if question.files is None:
        found.append(Download(str(question.target.base), 2 * shapes.parameters if shapes else None))
    if question.problems is None and isinstance(question.benchmark, Table):
        found.append(Download(question.benchmark.entry.id, None))
    return found


def downloads(seen: Preview) -> list[Download]:
    found = {download.id: download for download in _of_question(seen.question)}
    if SOURCE in arm_kinds(seen.question.settings.arms):
        for adapter in seen.stored:
            source = adapter.manifest.source if adapter else ""
            for download in _absent_source(source) if source else ():
                found.setdefault(download.id, download)
    for choice, adapter in zip(seen.choices, seen.stored, strict=True):
        if adapter is None and choice.name and seen.fitted is None:
            found.setdefault(choice.name, Download(choice.name, None))
    return list(found.values())
