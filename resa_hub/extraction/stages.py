"""What the stages of an extraction compute: steps, tokens and operations, from the recipe, the model's shapes and the
size of the data.
"""

import math

from ..config.methods import METHODS
from ..config.recipe import AUTO, Recipe, Rollouts
from ..config.refs import layer_of
from ..core.estimates import DataSize, StageCost
from ..core.flops import (
    SELECTION_STEPS,
    SELECTION_TOKENS,
    Shapes,
    comparison_flops,
    sae_training_flops,
    supervised_flops,
    tuning_flops,
)


def stages_of(recipe: Recipe, shapes: Shapes, data: dict[str, DataSize]) -> list[StageCost]:
    """What a recipe does on this much data, stage by stage. A screen is not in it."""
    method, size, elicit = METHODS[recipe.method], shapes.sizes, data["elicit"]
    if method.trains_on is None:
        return [StageCost("adapter", 0, 0, 0.0, 0)]
    if method.splices:
        return _spliced(recipe, shapes, data["trigger"], elicit)
    if method.supervised:
        step = supervised_flops(size.all, size.head)
        return [_tune(recipe.training.epochs, elicit, step, teacher=0.0, tuned=shapes.depth, taught=0)]
    return _on_rollouts(recipe, shapes, elicit)


def _spliced(recipe: Recipe, shapes: Shapes, trigger: DataSize, elicit: DataSize) -> list[StageCost]:
    """SAE-Tuning: layers below the hookpoint are run once, unless the hookpoint is inside a layer."""
    size, settings = shapes.sizes, recipe.sae
    at_mlp, layer = recipe.hookpoint.endswith(".mlp"), deepest(recipe, shapes)
    above = size.all if at_mlp else size.all - size.up_to(layer)
    tuned = shapes.depth if at_mlp else shapes.depth - layer - 1
    firsts = 0
    if settings.skip_first:
        chunk = recipe.training.chunk_tokens
        firsts = trigger.tokens // chunk if chunk else trigger.rows
    # A tenth of the batches judges the SAE, where there are several.
    learnt = (trigger.tokens - firsts) * (9 if trigger.batches > 1 else 10) // 10
    teacher = 2.0 * (size.all + shapes.width * settings.latents)
    step = tuning_flops(above, size.head)
    return [
        _sae(recipe, shapes, learnt, trigger.batches),
        _tune(recipe.training.epochs, elicit, step, teacher=teacher, tuned=tuned, taught=shapes.depth),
    ]


def _on_rollouts(recipe: Recipe, shapes: Shapes, elicit: DataSize) -> list[StageCost]:
    """The methods that distil on rollouts; a completion is taken to be as long as it may be."""
    size, settings, with_sae = shapes.sizes, recipe.rollouts or Rollouts(), METHODS[recipe.method].sae
    count = min(settings.count, elicit.rows)
    written, read = count * settings.new_tokens, round(count * elicit.question)
    batches = math.ceil(count / recipe.training.batch_rows)
    rollouts = DataSize(count, written + read, batches, elicit.basis)
    writers = 2 if with_sae and settings.of_source else 1
    stages = [_generation(settings.new_tokens, written, rollouts, writers + recipe.rounds - 1, shapes)]
    teacher = 2.0 * size.all + 2.0 * size.up_to(deepest(recipe, shapes))
    if with_sae:
        teacher += 4.0 * shapes.width * recipe.sae.latents * len(recipe.all_hookpoints)
        stages.append(_sae(recipe, shapes, writers * rollouts.tokens * 9 // 10, writers * batches))
        if recipe.selection != "mean":
            stages.append(_selection(recipe, shapes, rollouts.tokens, batches))
    epochs, step = recipe.rounds * recipe.training.epochs, tuning_flops(size.all, size.head)
    tune = _tune(epochs, rollouts, step, teacher=teacher, tuned=shapes.depth, taught=2 * shapes.depth)
    return [*stages, tune]


def _generation(new_tokens: int, written: int, rollouts: DataSize, times: int, shapes: Shapes) -> StageCost:
    """times: models and rounds that write. The head is run for written tokens alone."""
    operations = times * 2.0 * (shapes.sizes.all * rollouts.tokens + shapes.sizes.head * written)
    return StageCost(
        "rollouts",
        steps=times * new_tokens,
        tokens=times * rollouts.tokens,
        operations=operations,
        passes=0,
        decoding=True,
    )


def _selection(recipe: Recipe, shapes: Shapes, tokens: int, batches: int) -> StageCost:
    """Features chosen by the gradient of the logits: once, or in steps and once more for the order of the rest."""
    sample, size = min(tokens, SELECTION_TOKENS), shapes.sizes
    looks = SELECTION_STEPS + 1 if recipe.selection == "logits" else 1
    layers = [_layer(hookpoint, shapes) for hookpoint in recipe.all_hookpoints]
    operations = sum(
        comparison_flops(size.all) + looks * tuning_flops(size.all - size.up_to(layer), size.head) for layer in layers
    )
    passes = sum(2 * shapes.depth + looks * 3 * (shapes.depth - layer - 1) for layer in layers)
    return StageCost(
        "selection",
        steps=looks * len(layers),
        tokens=len(layers) * sample,
        operations=sample * operations,
        passes=math.ceil(batches * sample / tokens) * passes,
    )


def _sae(recipe: Recipe, shapes: Shapes, states: int, batches: int) -> StageCost:
    """states: those that stage I learns from."""
    settings, layer, count = recipe.sae, deepest(recipe, shapes), len(recipe.all_hookpoints)
    steps = 0
    if settings.mode != "pretrained":
        steps = settings.steps or max(1, int(states * settings.epochs) // settings.batch_tokens)
    tokens = steps * settings.batch_tokens
    training = tokens * sae_training_flops(shapes.width, settings.latents, settings.k)
    return StageCost(
        "sae",
        steps=count * steps,
        tokens=count * tokens,
        operations=count * (2.0 * shapes.sizes.up_to(layer) * states + training),
        passes=count * (batches * (layer + 1) + 3 * steps),
    )


def deepest(recipe: Recipe, shapes: Shapes) -> int:
    """The deepest layer that is looked at; the middle one where the screen chooses."""
    return max(_layer(hookpoint, shapes) for hookpoint in recipe.all_hookpoints)


def _layer(hookpoint: str, shapes: Shapes) -> int:
    return shapes.depth // 2 if hookpoint == AUTO else layer_of(hookpoint)


def _tune(epochs: int, data: DataSize, step: float, *, teacher: float, tuned: int, taught: int) -> StageCost:
    """step: operations a token of a step. teacher: operations a token of its states, made once. tuned, taught: layers
    that the student's and the teacher's passes start.
    """
    return StageCost(
        "adapter",
        steps=epochs * data.batches,
        tokens=epochs * data.tokens,
        operations=epochs * data.tokens * step + data.tokens * teacher,
        passes=data.batches * (3 * epochs * tuned + taught),
    )
