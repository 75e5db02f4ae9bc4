"""What an extraction will take, told before anything is fetched: tokens, steps, memory, operations, time and price.

Estimates, each with what it rests on.
"""

from ..config.methods import METHODS
from ..config.recipe import AUTO, Recipe
from ..config.refs import Repo, SaeRef
from ..config.registry import Registry
from ..core.estimates import DataSize, Download, Estimate, HardwareEstimate, StageCost, offer, offer_here
from ..core.flops import Shapes
from ..core.gpus import CPU_UTILISATION, GPUS, MAIN_MEMORY, Gpu, fits_main_memory, gpu_here, measured_speed
from ..data import datasets
from ..data.at_hand import at_hand, dataset_at_hand, sae_at_hand
from .data_size import data_size
from .plan import Plan
from .stages import deepest, stages_of

UTILISATION = 0.35
"""Share of a GPU's peak that training in bf16 reaches."""
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
    gpus = [gpu for gpu in GPUS if gpu.peak and gpu.price]
    offers = [offer(gpu, _gpu_hours(gpu, stages), needed, rate) for gpu in gpus]
    return Estimate(
        stages=stages,
        memory=memory,
        offers=[*offers, _here(stages, needed, rate)],
        notes=_notes(plan, registry, data),
        data=data,
        caches=_caches(recipe, shapes, stages),
        downloads=downloads(plan, shapes, registry),
    )


def _here(stages: list[StageCost], needed: int, rate: float | None) -> HardwareEstimate:
    found = gpu_here()
    if found is None:
        return offer_here("CPU", _hours(stages, CPU_UTILISATION * measured_speed()), rate, fits_main_memory(needed))
    name, gpu = found
    fits = None if gpu is None else needed < gpu.memory * 1e9
    return offer_here(name, _gpu_hours(gpu, stages) if gpu and gpu.peak else None, rate, fits)


def downloads(plan: Plan, shapes: Shapes, registry: Registry) -> list[Download]:
    """What is not on this machine yet, each once."""
    found: dict[str, Download] = {}
    models = {plan.recipe.source: plan.source, plan.recipe.target: plan.target, **plan.siblings}
    for ref in models.values():
        if at_hand(ref.base) is None:
            found[str(ref.base)] = Download(str(ref.base), 2 * shapes.parameters)
        if ref.adapter and at_hand(ref.adapter, "adapter") is None:
            found[str(ref.adapter)] = Download(str(ref.adapter), None)
    sae = plan.recipe.sae
    known = registry.entries["saes"].get(sae.origin or "")
    if METHODS[plan.recipe.method].sae and sae.mode != "scratch" and sae.origin:
        repo = Repo(known.value.id, known.value.revision) if known else SaeRef.parse(sae.origin).repo
        one = 4 * 2 * shapes.width * (known.value.latents if known else sae.latents)
        if not sae_at_hand(repo):
            found[str(repo)] = Download(str(repo), one * len(plan.recipe.all_hookpoints))
    for entry in (plan.trigger, plan.elicit):
        if not (entry.id == datasets.TINY or datasets.is_local(entry) or dataset_at_hand(entry.id)):
            found[entry.id] = Download(entry.id, None)
    return list(found.values())


def shapes_of(base: Repo, name: str, registry: Registry) -> Shapes | None:
    """From config.json where the model is at hand, else from the registry."""
    files = at_hand(base)
    if files:
        return Shapes.of(files.config)
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


def _gpu_hours(gpu: Gpu, stages: list[StageCost]) -> float:
    return _hours(stages, UTILISATION * (gpu.peak or 0.0), DECODING)


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
    notes.append(f"time: operations at {shares}, generation on a GPU at a tenth of that, and {started}")
    return notes if gpu_here() else [*notes, MAIN_MEMORY]


def _steps_as_the_paper(recipe: Recipe) -> bool:
    as_published = recipe.method == "sae-tuning" and recipe.training.chunk_tokens == 2_048
    return as_published and recipe.elicit.name in PAPER_STEPS and recipe.elicit.rows is None
