"""What an extraction will take, told before anything is fetched: tokens, steps, memory, operations, time and price.

Estimates, each with what it rests on.
"""

import msgspec

from ..config.methods import METHODS
from ..config.recipe import AUTO, Recipe
from ..config.refs import Repo, is_path
from ..config.registry import Registry
from ..core.flops import Shapes
from ..core.gpus import GPUS, Gpu, measured_speed
from ..data import tiny
from ..data.snapshots import locate
from .data_size import data_size
from .plan import Plan
from .stages import DataSize, StageCost, deepest, stages_of

UTILISATION = 0.35
"""Share of a GPU's peak that training in bf16 reaches."""
CPU_UTILISATION = 0.4
"""Share of the measured product of matrices."""
LAUNCH = 3e-4
"""Seconds that starting the kernels of a layer takes, once forward and twice backward: what small models spend most on.
"""
DECODING = 0.1
"""Generation, token by token, reaches this share of the speed of training on a GPU; a CPU is as fast at it."""
ACTIVATIONS = 34
"""Bytes a token and unit of width that a layer keeps for its backward pass in 16 bit, attention scores not kept:
Korthikanti et al. 2022 (arXiv 2205.05198).
"""
KL_POSITIONS, KL_COPIES = 256, 6
PAPER_STEPS = {"still": 1_448}
"""Steps an epoch that the paper names, by elicitation data: two GPUs, one chunk each."""


class HardwareEstimate(msgspec.Struct, frozen=True):
    """Where it may run, for how long and for how much."""

    machine: str
    hours: float
    usd: float | None
    priced: str
    fits: bool | None
    """Whether the memory suffices; null where it is not known."""


class Estimate(msgspec.Struct, frozen=True):
    data: dict[str, DataSize]
    stages: list[StageCost]
    memory: dict[str, int]
    """Bytes on the device, by part; the sum is what is needed."""
    caches: dict[str, int]
    """Bytes of the teacher's states in main memory or on disk; what does not fit is made anew at each use."""
    offers: list[HardwareEstimate]
    notes: list[str]

    @property
    def operations(self) -> float:
        return sum(stage.operations for stage in self.stages)

    @property
    def bytes(self) -> int:
        return sum(self.memory.values())


def estimate(plan: Plan, registry: Registry, rate: float | None = None) -> Estimate | str:
    """The estimate, or why there is none. Nothing is fetched; about half a second is spent on measuring this machine.

    rate: USD an hour of every machine, instead of the prices known here.
    """
    recipe = plan.recipe
    shapes = shapes_of(plan.target.base, recipe.target, registry)
    if shapes is None:
        return f"the sizes of {recipe.target} are not known here: give its registry entry a `config`"
    roles = {"elicit": (recipe.elicit, plan.elicit)}
    if METHODS[recipe.method].splices:  # the other methods read the elicitation data alone
        roles = {"trigger": (recipe.trigger, plan.trigger)} | roles
    sizes = {role: data_size(data, entry, plan) for role, (data, entry) in roles.items()}
    data = {role: size for role, size in sizes.items() if size}
    if unknown := next((roles[role][0].name for role in roles if role not in data), None):
        return f"the rows of {unknown} are not known here: give its registry entry `rows`"
    stages = stages_of(recipe, shapes, data)
    memory = _memory(recipe, shapes, stages)
    needed = sum(memory.values())
    offers = [offer for gpu in GPUS if (offer := _offer(gpu, stages, needed, rate))]
    here = _hours(stages, CPU_UTILISATION * measured_speed())
    offers.append(HardwareEstimate("this machine, CPU", here, None, "", None))
    caches = _caches(recipe, shapes, stages)
    return Estimate(data, stages, memory, caches, offers, _notes(plan, registry, data))


def shapes_of(base: Repo, name: str, registry: Registry) -> Shapes | None:
    """From config.json where the model is at hand, else from the registry."""
    if tiny.locate(base.id) or is_path(base.id):
        return Shapes.of(locate(base).config)
    entry = registry.model_entry(registry.base_name(name)) or registry.model_entry(registry.name_of_base(base.id))
    return Shapes.of(entry.config) if entry else None


def _bytes_a_number(recipe: Recipe) -> int:
    return 2 if recipe.dtype == "bfloat16" else 4


def _keeps_hookpoint(recipe: Recipe) -> bool:
    """Whether the states at the hookpoint are kept, so that the layers below it run once."""
    return METHODS[recipe.method].splices and not recipe.hookpoint.endswith(".mlp")


def _memory(recipe: Recipe, shapes: Shapes, stages: list[StageCost]) -> dict[str, int]:
    """Bytes on the device by part; the last stage trains the LoRA."""
    each, tune = _bytes_a_number(recipe), stages[-1]
    models = 3 if METHODS[recipe.method].teacher else 1
    tuned = shapes.depth - deepest(recipe, shapes) - 1 if _keeps_hookpoint(recipe) else shapes.depth
    batch = tune.tokens // max(1, tune.steps)
    memory = {f"weights of {models} model{'s' if models > 1 else ''}": models * shapes.parameters * each}
    if any(stage.name == "sae" for stage in stages):
        memory["SAE"] = 4 * shapes.width * recipe.sae.latents * 2 * len(recipe.all_hookpoints)
        if recipe.sae.mode != "pretrained":
            memory["its optimiser"] = memory["SAE"] * (2 if recipe.sae.optimizer == "adam" else 1)
    return memory | {
        "LoRA, gradient, AdamW": 4 * 4 * shapes.lora(recipe.lora.modules, recipe.lora.rank, tuned),
        "activations of a step": batch * tuned * shapes.width * ACTIVATIONS * each // 2,
        "logits, 256 positions": KL_POSITIONS * shapes.vocabulary * 4 * KL_COPIES,
    }


def _caches(recipe: Recipe, shapes: Shapes, stages: list[StageCost]) -> dict[str, int]:
    """Bytes of states that every epoch reads again."""
    if not METHODS[recipe.method].teacher:
        return {}
    tokens = stages[-1].tokens // (recipe.training.epochs * recipe.rounds)
    state = tokens * shapes.width * _bytes_a_number(recipe)
    caches = {"the teacher's final states": state}
    return caches | {"states at the hookpoint": state} if _keeps_hookpoint(recipe) else caches


def _hours(stages: list[StageCost], speed: float, decoding: float = 1.0) -> float:
    """speed: operations a second. decoding: the share of it that generation reaches."""
    seconds = 0.0
    for stage in stages:
        reached = speed * (decoding if stage.decoding else 1.0)
        seconds += stage.operations / reached + stage.passes * LAUNCH
    return seconds / 3600


def _offer(gpu: Gpu, stages: list[StageCost], needed: int, rate: float | None) -> HardwareEstimate | None:
    """None for a GPU whose peak or price is not known."""
    if gpu.peak is None or gpu.price is None:
        return None
    hours = _hours(stages, UTILISATION * gpu.peak, DECODING)
    usd, source = gpu.price if rate is None else (rate, "as given")
    return HardwareEstimate(gpu.name, hours, hours * usd, f"${usd:.2f} an hour, {source}", needed < gpu.memory * 1e9)


def _notes(plan: Plan, registry: Registry, data: dict[str, DataSize]) -> list[str]:
    recipe, notes = plan.recipe, []
    if AUTO in recipe.all_hookpoints or recipe.screen:
        notes.append("the screen chooses before training: a middle layer is counted, the screen itself is not")
    if _steps_as_the_paper(recipe):
        paper, rows = PAPER_STEPS[recipe.elicit.name], recipe.training.batch_rows
        theirs = f"the paper's {paper:,} steps an epoch are of 2 GPUs with one chunk each, {2 * paper:,} chunks"
        ours = f"here {data['elicit'].batches:,} steps of {rows} chunk{'s' if rows > 1 else ''} on one"
        notes.append(f"{theirs}; {ours}: as many tokens, twice as many updates")
    entry = registry.model_entry(recipe.source)
    if entry and entry.cost_usd:
        cost = f"the source cost ${entry.cost_usd:,.0f} to train ({entry.cost_note})"
        notes.append(f"{cost}: no transfer comes without it")
    elif entry and entry.cost_note:
        notes.append(f"the source: {entry.cost_note}")
    shares = f"{UTILISATION:.0%} of a GPU's peak (CPU: {CPU_UTILISATION:.0%} of a measured product)"
    started = f"{LAUNCH * 1e3:g} ms for each layer started; downloads and the writing of files are not in it"
    notes.append(f"hours: operations at {shares}, generation on a GPU at a tenth of that, and {started}")
    return notes


def _steps_as_the_paper(recipe: Recipe) -> bool:
    as_published = recipe.method == "sae-tuning" and recipe.training.chunk_tokens == 2_048
    return as_published and recipe.elicit.name in PAPER_STEPS and recipe.elicit.rows is None
