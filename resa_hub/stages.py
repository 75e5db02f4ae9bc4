"""The stages of an extraction before it runs: steps, tokens, operations and passes of each, from the sizes of model and data alone."""

import math

import msgspec

from .operations import SELECTION_STEPS, SELECTION_TOKENS, Shapes, comparing, sae_training, supervised, tuning
from .recipe import AUTO, Recipe, Rollouts
from .refs import layer_of

SPLICED, FEATURES = ("sae-tuning", "gaussian"), ("feature-diff", "random-features", "outside-features")


class Amount(msgspec.Struct, frozen=True):
    """The tokens of one role's data."""

    rows: int
    tokens: int
    batches: int
    """Chunks or buckets, a step each."""
    basis: str
    """counted, or what the estimate rests on."""
    question: float = 0.0
    """Mean tokens of a question."""


class Stage(msgspec.Struct, frozen=True):
    name: str
    steps: int
    tokens: int
    operations: float
    passes: int
    """Layers started, forward or backward."""
    decoding: bool = False


def stages_of(recipe: Recipe, shapes: Shapes, data: dict[str, Amount]) -> list[Stage]:
    """What a recipe does on this much data, stage by stage. A screen is not in it."""
    size, elicit, epochs = shapes.sizes, data["elicit"], recipe.training.epochs
    if recipe.method == "sft":
        return [_tune(epochs, elicit.batches, elicit.tokens, supervised(size.all, size.head), 0.0, shapes.depth, 0)]
    if recipe.method == "random":
        return [Stage("adapter", 0, 0, 0.0, 0)]
    if recipe.method in SPLICED:
        at_mlp, layer = recipe.hookpoint.endswith(".mlp"), deepest(recipe, shapes)
        above = size.all if at_mlp else size.all - size.up_to(layer)
        states = 2.0 * (size.all + shapes.width * recipe.sae.latents)
        tuned = shapes.depth if at_mlp else shapes.depth - layer - 1
        trigger = data["trigger"]
        firsts = (trigger.tokens // recipe.training.chunk_tokens if recipe.training.chunk_tokens else trigger.rows) if recipe.sae.skip_first else 0
        learnt = (trigger.tokens - firsts) * (9 if trigger.batches > 1 else 10) // 10
        return [
            _sae(recipe, shapes, learnt, trigger.batches),
            _tune(epochs, elicit.batches, elicit.tokens, tuning(above, size.head), states, tuned, shapes.depth),
        ]
    return _on_rollouts(recipe, shapes, elicit)


def _on_rollouts(recipe: Recipe, shapes: Shapes, elicit: Amount) -> list[Stage]:
    """The methods that distil on rollouts; a completion is taken to be as long as it may be."""
    size, settings = shapes.sizes, recipe.rollouts or Rollouts()
    count = min(settings.count, elicit.rows)
    made, read = count * settings.new_tokens, round(count * elicit.question)
    tokens, with_sae = made + read, recipe.method in FEATURES
    both = 2 if with_sae and settings.of_source else 1
    times = both + recipe.rounds - 1
    generate = Stage("rollouts", times * settings.new_tokens, times * tokens, times * 2.0 * (size.all * tokens + size.head * made), 0, True)
    batches = math.ceil(count / recipe.training.batch_rows)
    encoder = 4.0 * shapes.width * recipe.sae.latents * len(recipe.at) if with_sae else 0.0
    states = 2.0 * size.all + encoder + 2.0 * size.up_to(deepest(recipe, shapes))
    tune = _tune(recipe.rounds * recipe.training.epochs, batches, tokens, tuning(size.all, size.head), states, shapes.depth, 2 * shapes.depth)
    sae = [_sae(recipe, shapes, both * tokens * 9 // 10, both * batches)] if with_sae else []
    selected = [_selection(recipe, shapes, tokens, batches)] if with_sae and recipe.selection != "mean" else []
    return [generate, *sae, *selected, tune]


def _selection(recipe: Recipe, shapes: Shapes, tokens: int, batches: int) -> Stage:
    """Features chosen by the gradient of the logits: once, or in steps and once more for the order of the rest."""
    sample, looks, size = min(tokens, SELECTION_TOKENS), SELECTION_STEPS + 1 if recipe.selection == "logits" else 1, shapes.sizes
    layers = [_layer(place, shapes) for place in recipe.at]
    operations = sum(comparing(size.all) + looks * tuning(size.all - size.up_to(layer), size.head) for layer in layers)
    passes = sum(2 * shapes.depth + looks * 3 * (shapes.depth - layer - 1) for layer in layers)
    return Stage("selection", looks * len(layers), len(layers) * sample, sample * operations, math.ceil(batches * sample / tokens) * passes)


def _sae(recipe: Recipe, shapes: Shapes, states: int, batches: int) -> Stage:
    settings, layer, count = recipe.sae, deepest(recipe, shapes), len(recipe.at)
    below = shapes.sizes.up_to(layer)
    steps = 0 if settings.mode == "pretrained" else settings.steps or max(1, int(states * settings.epochs) // settings.batch_tokens)
    tokens = steps * settings.batch_tokens
    operations = 2.0 * below * states + tokens * sae_training(shapes.width, settings.latents, settings.k)
    return Stage("sae", count * steps, count * tokens, count * operations, count * (batches * (layer + 1) + 3 * steps))


def deepest(recipe: Recipe, shapes: Shapes) -> int:
    """The deepest layer that is looked at; the middle one where the screen chooses."""
    return max(_layer(place, shapes) for place in recipe.at)


def _layer(place: str, shapes: Shapes) -> int:
    return shapes.depth // 2 if place == AUTO else layer_of(place)


def _tune(epochs: int, batches: int, tokens: int, each: float, states: float, tuned: int, teacher: int) -> Stage:
    """each: operations a token of a step; states: of the teacher's, made once."""
    return Stage("adapter", epochs * batches, epochs * tokens, epochs * tokens * each + tokens * states, batches * (3 * epochs * tuned + teacher))
