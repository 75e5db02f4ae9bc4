"""What a recipe alone tells that it cannot be run: numbers out of their range, and parts that contradict each other."""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from ..adapter.fit import MAX_RANK
from ..config import refs
from ..config.methods import METHODS, PATCHING, SCREENED
from ..config.recipe import AUTO, Recipe
from ..core.errors import Usage

MOST_ROWS = 1_000_000
"""Rows of a generated data set, and rollouts: more are a slip of the hand."""
MOST_EPOCHS = 10_000


class Range(NamedTuple):
    """A setting and what it may be."""

    key: str
    value: float | None
    low: float
    high: float = float("inf")
    above: bool = False
    """Whether `low` itself is too small."""

    @property
    def holds(self) -> bool:
        if self.value is None:
            return True
        return (self.value > self.low if self.above else self.value >= self.low) and self.value <= self.high

    @property
    def words(self) -> str:
        low = f"more than {self.low:g}" if self.above else f"at least {self.low:,.0f}"
        return low if self.high == float("inf") else f"{low} and at most {self.high:,.0f}"


def checked(recipe: Recipe) -> Recipe:
    """The recipe with its first hookpoint in place. Raises `Usage` that names the key, its value and what may stand
    there.
    """
    recipe = _placed(recipe)
    for setting in _ranges(recipe):
        if not setting.holds:
            shown = f"{setting.value:,}" if isinstance(setting.value, int) else f"{setting.value:g}"
            raise Usage(f"{setting.key} is {shown}: it must be {setting.words}", f"--set {setting.key}=...")
    check_features(recipe)
    return recipe


def _placed(recipe: Recipe) -> Recipe:
    """Raises `Usage` for hookpoints that cannot be, and for a screen of a method that has none."""
    if recipe.hookpoints:
        layers = [refs.layer_of(at) for at in recipe.hookpoints]
        if layers != sorted(set(layers)):
            raise Usage(
                f"hookpoints {', '.join(recipe.hookpoints)} are not in order",
                "name each layer once, the shallowest first",
            )
        if recipe.method not in PATCHING and len(layers) > 1:
            raise Usage(
                f"{recipe.method} works at one hookpoint, not {len(layers)}",
                f"--set hookpoints=[] or one of {', '.join(PATCHING)}",
            )
        recipe = msgspec.structs.replace(recipe, hookpoint=recipe.hookpoints[0])
    if (recipe.hookpoint == AUTO or recipe.screen) and recipe.method not in SCREENED:
        raise Usage(
            f"{recipe.method} has no screen: layer, features and scale cannot be {AUTO}",
            f"give it those that were chosen for {' or '.join(SCREENED)}, so that they can be compared",
        )
    for hookpoint in recipe.all_hookpoints:
        if hookpoint != AUTO:
            refs.check_hookpoint(hookpoint)
        if hookpoint.endswith(".mlp") and METHODS[recipe.method].patches:
            raise Usage(f"{recipe.method} needs a layer-output hookpoint, not {hookpoint}", "choose --layer N")
    return recipe


def _ranges(recipe: Recipe) -> Iterator[Range]:
    """Of the settings that the method uses."""
    method, training, sae = METHODS[recipe.method], recipe.training, recipe.sae
    yield Range("lora.rank", recipe.lora.rank, 1, MAX_RANK)
    yield Range("trigger.rows", recipe.trigger.rows, 1, MOST_ROWS)
    yield Range("elicit.rows", recipe.elicit.rows, 1, MOST_ROWS)
    if method.trains_on:
        yield Range("training.epochs", training.epochs, 1, MOST_EPOCHS)
        yield Range("training.learning_rate", training.learning_rate, 0, above=True)
        yield Range("training.gradient_clip", training.gradient_clip, 0, above=True)
        # A text of one token holds nothing to predict.
        yield Range("training.max_tokens", training.max_tokens, 2)
        yield Range("training.chunk_tokens", training.chunk_tokens, 2)
    if method.patches:
        yield Range("scale", recipe.scale, 0, above=True)
    if method.trains_on == "rollouts" and recipe.rollouts:
        yield Range("rollouts.count", recipe.rollouts.count, 1, MOST_ROWS)
    if method.sae and sae.mode != "pretrained":
        yield Range("sae.epochs", sae.epochs, 0, above=True)
        yield Range("sae.learning_rate", sae.learning_rate, 0, above=True)
    if method.sae and sae.mode == "scratch":
        yield Range("sae.k", sae.k, 1, sae.latents)


def check_features(recipe: Recipe, latents: int | None = None) -> None:
    """Raise `Usage` for more features than an SAE has latents. latents: of one that is there already; a new one has
    those of the recipe.
    """
    method = METHODS[recipe.method]
    if not method.sae or not method.patches:
        return
    if latents is None and recipe.sae.mode == "scratch":
        latents = recipe.sae.latents
    # The controls take theirs from outside of twice as many.
    share = 1 if method.selects else 3
    for key, count in _counts(recipe):
        if latents is not None and share * count > latents:
            outside = "" if share == 1 else f", of which {recipe.method} leaves out the strongest {2 * count:,}"
            raise Usage(
                f"{key} is {count:,}, but the SAE has {latents:,} latents{outside}",
                f"ask for 1 to {latents // share:,}",
            )


def check_directions(recipe: Recipe, width: int) -> None:
    """Raise `Usage` for more principal directions than the states have entries."""
    method = METHODS[recipe.method]
    if method.sae or not method.patches:
        return
    for key, count in _counts(recipe):
        if count > width:
            raise Usage(
                f"{key} is {count:,}, but the states of {recipe.target} have {width:,} directions",
                f"ask for 1 to {width:,}",
            )


def _counts(recipe: Recipe) -> list[tuple[str, int]]:
    """Numbers of features that are asked for, with their keys."""
    candidates = [("screen.features", count) for count in recipe.screen.features] if recipe.screen else []
    return candidates or [("features", recipe.features)]
