"""What an extraction will take, told before anything is fetched: tokens, steps, memory, operations, time and price.

Estimates, each with what it rests on. Data and models that are at hand (embedded, or local files) are counted; of
others the registry gives rows and sizes.
"""

import math
import time
from pathlib import Path
from typing import Any

import msgspec

from ..config.recipe import AUTO, Data, Recipe, Rollouts
from ..config.refs import Repo, is_path, layer_of
from ..config.registry import Registry
from ..config.schema import Dataset
from ..core.flops import SELECTION_STEPS, SELECTION_TOKENS, Shapes, comparing, sae_training, supervised, tuning
from ..core.gpus import GPUS, Gpu
from ..data import datasets, tiny
from ..data.snapshots import Rows, locate
from ..data.templates import question_answer, template_of
from .plan import Plan

SPLICED, FEATURES = ("sae-tuning", "gaussian"), ("feature-diff", "random-features", "outside-features")


class DataSize(msgspec.Struct, frozen=True):
    """The tokens of one role's data."""

    rows: int
    tokens: int
    batches: int
    """Chunks or buckets, a step each."""
    basis: str
    """counted, or what the estimate rests on."""
    question: float = 0.0
    """Mean tokens of a question."""


class StageCost(msgspec.Struct, frozen=True):
    name: str
    steps: int
    tokens: int
    operations: float
    passes: int
    """Layers started, forward or backward."""
    decoding: bool = False


def stages_of(recipe: Recipe, shapes: Shapes, data: dict[str, DataSize]) -> list[StageCost]:
    """What a recipe does on this much data, stage by stage. A screen is not in it."""
    size, elicit, epochs = shapes.sizes, data["elicit"], recipe.training.epochs
    if recipe.method == "sft":
        return [_tune(epochs, elicit.batches, elicit.tokens, supervised(size.all, size.head), 0.0, shapes.depth, 0)]
    if recipe.method == "random":
        return [StageCost("adapter", 0, 0, 0.0, 0)]
    if recipe.method in SPLICED:
        at_mlp, layer = recipe.hookpoint.endswith(".mlp"), deepest(recipe, shapes)
        above = size.all if at_mlp else size.all - size.up_to(layer)
        states = 2.0 * (size.all + shapes.width * recipe.sae.latents)
        tuned = shapes.depth if at_mlp else shapes.depth - layer - 1
        trigger = data["trigger"]
        firsts = (
            (trigger.tokens // recipe.training.chunk_tokens if recipe.training.chunk_tokens else trigger.rows)
            if recipe.sae.skip_first
            else 0
        )
        learnt = (trigger.tokens - firsts) * (9 if trigger.batches > 1 else 10) // 10
        return [
            _sae(recipe, shapes, learnt, trigger.batches),
            _tune(epochs, elicit.batches, elicit.tokens, tuning(above, size.head), states, tuned, shapes.depth),
        ]
    return _on_rollouts(recipe, shapes, elicit)


def _on_rollouts(recipe: Recipe, shapes: Shapes, elicit: DataSize) -> list[StageCost]:
    """The methods that distil on rollouts; a completion is taken to be as long as it may be."""
    size, settings = shapes.sizes, recipe.rollouts or Rollouts()
    count = min(settings.count, elicit.rows)
    made, read = count * settings.new_tokens, round(count * elicit.question)
    tokens, with_sae = made + read, recipe.method in FEATURES
    both = 2 if with_sae and settings.of_source else 1
    times = both + recipe.rounds - 1
    generate = StageCost(
        "rollouts",
        times * settings.new_tokens,
        times * tokens,
        times * 2.0 * (size.all * tokens + size.head * made),
        0,
        True,
    )
    batches = math.ceil(count / recipe.training.batch_rows)
    encoder = 4.0 * shapes.width * recipe.sae.latents * len(recipe.all_hookpoints) if with_sae else 0.0
    states = 2.0 * size.all + encoder + 2.0 * size.up_to(deepest(recipe, shapes))
    tune = _tune(
        recipe.rounds * recipe.training.epochs,
        batches,
        tokens,
        tuning(size.all, size.head),
        states,
        shapes.depth,
        2 * shapes.depth,
    )
    sae = [_sae(recipe, shapes, both * tokens * 9 // 10, both * batches)] if with_sae else []
    selected = [_selection(recipe, shapes, tokens, batches)] if with_sae and recipe.selection != "mean" else []
    return [generate, *sae, *selected, tune]


def _selection(recipe: Recipe, shapes: Shapes, tokens: int, batches: int) -> StageCost:
    """Features chosen by the gradient of the logits: once, or in steps and once more for the order of the rest."""
    sample, looks, size = (
        min(tokens, SELECTION_TOKENS),
        SELECTION_STEPS + 1 if recipe.selection == "logits" else 1,
        shapes.sizes,
    )
    layers = [_layer(place, shapes) for place in recipe.all_hookpoints]
    operations = sum(comparing(size.all) + looks * tuning(size.all - size.up_to(layer), size.head) for layer in layers)
    passes = sum(2 * shapes.depth + looks * 3 * (shapes.depth - layer - 1) for layer in layers)
    return StageCost(
        "selection",
        looks * len(layers),
        len(layers) * sample,
        sample * operations,
        math.ceil(batches * sample / tokens) * passes,
    )


def _sae(recipe: Recipe, shapes: Shapes, states: int, batches: int) -> StageCost:
    settings, layer, count = recipe.sae, deepest(recipe, shapes), len(recipe.all_hookpoints)
    below = shapes.sizes.up_to(layer)
    steps = (
        0
        if settings.mode == "pretrained"
        else settings.steps or max(1, int(states * settings.epochs) // settings.batch_tokens)
    )
    tokens = steps * settings.batch_tokens
    operations = 2.0 * below * states + tokens * sae_training(shapes.width, settings.latents, settings.k)
    return StageCost(
        "sae", count * steps, count * tokens, count * operations, count * (batches * (layer + 1) + 3 * steps)
    )


def deepest(recipe: Recipe, shapes: Shapes) -> int:
    """The deepest layer that is looked at; the middle one where the screen chooses."""
    return max(_layer(place, shapes) for place in recipe.all_hookpoints)


def _layer(place: str, shapes: Shapes) -> int:
    return shapes.depth // 2 if place == AUTO else layer_of(place)


def _tune(epochs: int, batches: int, tokens: int, each: float, states: float, tuned: int, teacher: int) -> StageCost:
    """each: operations a token of a step; states: of the teacher's, made once."""
    return StageCost(
        "adapter",
        epochs * batches,
        epochs * tokens,
        epochs * tokens * each + tokens * states,
        batches * (3 * epochs * tuned + teacher),
    )


ROW_TOKENS, COT_TOKENS = 180, 400
"""Of an example in the R1 template: as STILL's, see the registry. The second is a guess at a worked solution."""
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
    data: dict[str, DataSize] = {}
    for role, told, entry in (("trigger", recipe.trigger, plan.trigger), ("elicit", recipe.elicit, plan.elicit)):
        if role == "trigger" and recipe.method not in SPLICED:
            continue  # the other methods read the elicitation data alone
        found = amount(told, entry, plan)
        if found is None:
            return f"the rows of {told.name} are not known here: give its registry entry `rows`"
        data[role] = found
    stages = stages_of(recipe, shapes, data)
    memory, caches = _memory(recipe, shapes, stages, data)
    needed = sum(memory.values())
    offers = [offer for gpu in GPUS if (offer := _offer(gpu, stages, needed, rate))]
    offers.append(
        HardwareEstimate("this machine, CPU", _hours(stages, CPU_UTILISATION * measured_speed()), None, "", None)
    )
    return Estimate(data, stages, memory, caches, offers, _notes(plan, registry, data))


def shapes_of(base: Repo, name: str, registry: Registry) -> Shapes | None:
    """From config.json where the model is at hand, else from the registry."""
    if tiny.locate(base.id) or is_path(base.id):
        return Shapes.of(locate(base).config)
    entry = registry.model_entry(registry.base_name(name)) or registry.model_entry(registry.name_of_base(base.id))
    return Shapes.of(entry.config) if entry else None


def amount(data: Data, entry: Dataset, plan: Plan) -> DataSize | None:
    """Counted where data and tokenizer are at hand, else rows times an estimate; None where not even the rows are
    known.
    """
    training = plan.recipe.training
    if entry.id == datasets.TINY or datasets.is_local(entry):
        rows = datasets.load(data, entry)
        lengths, questions, basis = _lengths(rows, plan)
        lengths = [min(length, training.max_tokens or length) for length in lengths]
        tokens, question = sum(lengths), sum(questions) / len(questions)
        if basis == "counted" and not training.chunk_tokens:
            buckets = {length: lengths.count(length) for length in set(lengths)}
            return DataSize(
                len(lengths), tokens, sum(math.ceil(n / training.batch_rows) for n in buckets.values()), basis, question
            )
        return _packed(len(lengths), tokens, training, basis, question)
    rows_, each = min(data.rows or entry.rows or 0, entry.rows or data.rows or 0), entry.row_tokens or ROW_TOKENS
    if not rows_:
        return None
    basis = f"estimate: {rows_:,} rows, {each} tokens a row" + (
        f" and {COT_TOKENS} of solution, a guess" if data.cot else ""
    )
    length = each + COT_TOKENS * data.cot
    return _packed(rows_, rows_ * min(length, training.max_tokens or length), training, basis, float(each))


def _packed(rows: int, tokens: int, training: Any, basis: str, question: float) -> DataSize:
    if training.chunk_tokens:
        chunks = max(1, tokens // training.chunk_tokens)
        return DataSize(rows, chunks * training.chunk_tokens, math.ceil(chunks / training.batch_rows), basis, question)
    return DataSize(rows, tokens, math.ceil(rows / training.batch_rows), basis, question)


def _lengths(rows: Rows, plan: Plan) -> tuple[list[int], list[int], str]:
    """Tokens of each example and of each question, EOS counted."""
    texts = [
        question_answer(plan.template, *pair, rows.thoughts[i] if rows.thoughts else None)
        for i, pair in enumerate(rows.pairs)
    ]
    asked = [template_of(plan.template).opening.format(question=question) for question, _ in rows.pairs]
    base = plan.target.base
    folder = tiny.locate(base.id) or (Path(base.id).expanduser() if is_path(base.id) else None)
    if folder and (folder / "tokenizer.json").is_file():
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        return (
            [len(e.ids) + 1 for e in tokenizer.encode_batch(texts)],
            [len(e.ids) for e in tokenizer.encode_batch(asked)],
            "counted",
        )
    return (
        [len(text) // 4 + 1 for text in texts],
        [len(text) // 4 for text in asked],
        "estimate: the texts are here, four characters a token",
    )


def _memory(
    recipe: Recipe, shapes: Shapes, stages: list[StageCost], data: dict[str, DataSize]
) -> tuple[dict[str, int], dict[str, int]]:
    each = 2 if recipe.dtype == "bfloat16" else 4
    copies = 1 if recipe.method in ("sft", "random") else 3
    shared = recipe.method in SPLICED and not recipe.hookpoint.endswith(".mlp")
    tuned = shapes.depth - deepest(recipe, shapes) - 1 if shared else shapes.depth
    stage = stages[-1]
    batch = stage.tokens // max(1, stage.steps)
    memory = {f"weights of {copies} model{'s' if copies > 1 else ''}": copies * shapes.parameters * each}
    if any(stage.name == "sae" for stage in stages):
        sae = 4 * shapes.width * recipe.sae.latents * 2 * len(recipe.all_hookpoints)
        training = recipe.sae.mode != "pretrained"
        memory |= {"SAE": sae} | (
            {"its optimiser": sae * (2 if recipe.sae.optimizer == "adam" else 1)} if training else {}
        )
    lora = shapes.lora(recipe.lora.modules, recipe.lora.rank, tuned)
    memory |= {
        "LoRA, gradient, AdamW": 4 * 4 * lora,
        "activations of a step": batch * tuned * shapes.width * ACTIVATIONS * each // 2,
        "logits, 256 positions": KL_POSITIONS * shapes.vocabulary * 4 * KL_COPIES,
    }
    if recipe.method in ("sft", "random"):
        return memory, {}
    tokens = stage.tokens // (recipe.training.epochs * recipe.rounds)
    state = tokens * shapes.width * each
    return memory, {"the teacher's final states": state} | ({"states at the hookpoint": state} if shared else {})


def _hours(stages: list[StageCost], speed: float, decoding: float = 1.0) -> float:
    return (
        sum(
            stage.operations / (speed * (decoding if stage.decoding else 1.0)) + stage.passes * LAUNCH
            for stage in stages
        )
        / 3600
    )


def _offer(gpu: Gpu, stages: list[StageCost], needed: int, rate: float | None) -> HardwareEstimate | None:
    """None for a GPU whose peak or price is not known."""
    if gpu.peak is None or gpu.price is None:
        return None
    hours = _hours(stages, UTILISATION * gpu.peak, DECODING)
    usd, told = gpu.price if rate is None else (rate, "as given")
    return HardwareEstimate(gpu.name, hours, hours * usd, f"${usd:.2f} an hour, {told}", needed < gpu.memory * 1e9)


def measured_speed(seconds: float = 0.4) -> float:
    """Operations a second of float32 products of matrices on all cores that this process may use, were they idle: by
    processor time, not by the clock.
    """
    import os

    import numpy

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    size, done, until = 512, 0, time.monotonic() + seconds
    left, right = numpy.ones((size, size), numpy.float32), numpy.ones((size, size), numpy.float32)
    _ = left @ right
    began = time.process_time()
    while time.monotonic() < until or not done:
        _ = left @ right
        done += 1
    return done * 2.0 * size**3 / max(time.process_time() - began, 1e-9) * cores


def _notes(plan: Plan, registry: Registry, data: dict[str, DataSize]) -> list[str]:
    recipe, notes = plan.recipe, []
    paper = PAPER_STEPS.get(recipe.elicit.name)
    if AUTO in recipe.all_hookpoints or recipe.screen:
        notes.append("the screen chooses before training: a middle layer is counted, the screen itself is not")
    if paper and recipe.method == "sae-tuning" and recipe.training.chunk_tokens == 2_048 and recipe.elicit.rows is None:
        ours = data["elicit"].batches
        notes.append(
            f"the paper's {paper:,} steps an epoch are of 2 GPUs with one chunk each, {2 * paper:,} chunks; "
            f"here {ours:,} steps of "
            f"{recipe.training.batch_rows} chunk{'s' if recipe.training.batch_rows > 1 else ''} on one: as "
            "many tokens, twice as many updates"
        )
    entry = registry.model_entry(recipe.source)
    if entry and entry.cost_usd:
        notes.append(
            f"the source cost ${entry.cost_usd:,.0f} to train ({entry.cost_note}): no transfer comes without it"
        )
    elif entry and entry.cost_note:
        notes.append(f"the source: {entry.cost_note}")
    notes.append(
        f"hours: operations at {UTILISATION:.0%} of a GPU's peak (CPU: {CPU_UTILISATION:.0%} of a measured "
        "product), generation on a GPU at a tenth of that, "
        f"and {LAUNCH * 1e3:g} ms for each layer started; downloads and the writing of files are not in it"
    )
    return notes
