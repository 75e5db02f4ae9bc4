"""The screen: which layer, how many features and which scale, found without training, on rollouts that training does
not see.

A patch is judged by how far it moves the target: the share of KL(source || target), on the completions of development
rollouts of the target, that is gone when the target is patched. On a real model retained gain followed such a number
from arm to arm; it costs forward passes only.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from ...config.recipe import AUTO, Screen
from ...core.errors import NoEffect
from ...core.progress import waiting
from ..model.kl import CHUNK, kl
from ..model.partial_forward import decoder_layers, last_hidden_state, lm_head
from ..model.tokens import Batch
from .activation_patching import Patch, Patches, check_patch, patched_hidden_state
from .context import ExtractionContext
from .directions import principal_directions

SUFFICIENT_SHARE = 0.95
"""The fewest features are taken that close this share of what the best number of them closes."""
STAGE = "screen"
Trial = dict[str, Any]
"""One line of the table: hookpoint, patch, scale, closed, chosen."""


class Measurement(Protocol):
    """What a method finds out about one hookpoint: an SAE with ranked features, or principal directions."""

    def patch(self, count: int) -> Patch:
        """The patch of the first `count` features, or directions."""
        ...


M = TypeVar("M", bound=Measurement)


class ScreenResult(NamedTuple):
    choices: dict[str, Any]
    """Fields of the recipe that were left open, for `ExtractionContext.update_recipe`; empty where none was."""
    trials: list[Trial]
    """What was tried."""


class SettledMeasurements(NamedTuple, Generic[M]):
    by_hookpoint: Mapping[str, M]
    trials: list[Trial]

    def patches(self, count: int) -> Patches:
        return patches_of(self.by_hookpoint, count)


class DevelopmentSet:
    """Rollouts to questions that training does not use, and how far source and target are apart on them."""

    def __init__(self, context: ExtractionContext) -> None:
        self.context = context
        screen = context.recipe.screen or Screen()
        self.batches = context.texts.dev_rollouts(screen.rollouts)
        self.heads = lm_head(context.source), lm_head(context.target)
        with torch.no_grad():
            self.source_states = [
                last_hidden_state(context.source, batch.ids.to(context.source.device)) for batch in self.batches
            ]
            self.target_kl = self._kl(
                lambda batch: last_hidden_state(context.target, batch.ids.to(context.target.device))
            )
        if self.target_kl == 0:
            raise NoEffect(
                "source and target predict the same on every rollout: there is nothing to extract",
                "choose another source",
            )

    @torch.no_grad()
    def closed(self, patches: Patches) -> float:
        """Share of the KL that the patches, taken as they are, close; 1 is the source itself, below 0 they lead away
        from it.
        """
        return 1 - self._kl(lambda batch: patched_hidden_state(self.context, batch, patches, 1.0)) / self.target_kl

    def _kl(self, final_state: Callable[[Batch], Tensor]) -> float:
        """KL(source || the model with these final states), summed over all completions, in nats."""
        total, (source_head, target_head) = 0.0, self.heads
        for batch, source_state in zip(self.batches, self.source_states, strict=True):
            # The passes of source and target, one of them up to the hookpoint only.
            self.context.ledger.add(STAGE, batch.tokens, 4.0 * self.context.models.target_sizes.all * batch.tokens)
            completion = batch.completion.to(source_state.device)
            source_chunks = source_state[completion].split(CHUNK)
            target_chunks = final_state(batch)[completion].split(CHUNK)
            for source, target in zip(source_chunks, target_chunks, strict=True):
                total += float(kl(source_head(source), target_head(target), "teacher-student").sum())
        return total


class PatchScreen:
    """The screen of one extraction. It chooses and changes nothing: its caller hands the choices to the context."""

    def __init__(self, context: ExtractionContext) -> None:
        self.context = context

    @cached_property
    def development(self) -> DevelopmentSet:
        """Made once for both choices, and only where there is one to make."""
        return DevelopmentSet(self.context)

    def choose_layer(self, batches: list[Batch]) -> ScreenResult:
        """The layer of a hookpoint `auto`. No SAE is there yet, so principal directions stand for the features.

        batches: the training rollouts, which the directions are taken from. The last layer is left out unless it is
        asked for: nothing lies behind it that could read the patch, it would be the distillation of logits.
        """
        context, recipe = self.context, self.context.recipe
        if recipe.hookpoint != AUTO:
            return ScreenResult({}, [])
        screen = recipe.screen or Screen()
        layers = screen.layers or range(max(1, len(decoder_layers(context.target)) - 1))
        count = max(screen.features, default=recipe.features)
        trials: list[Trial] = []
        candidates: list[Trial] = []
        with context.ledger.stage(STAGE):
            development = self.development
            for hookpoint in (f"layers.{layer}" for layer in layers):
                with waiting(f"trying patches at {hookpoint}"):
                    directions = principal_directions(context, batches, hookpoint).patch(count)
                    whole = _trial(hookpoint, "whole state", 1.0, development.closed({hookpoint: _whole_difference}))
                    part = _trial(hookpoint, f"{count} directions", 1.0, development.closed({hookpoint: directions}))
                trials += [whole, part]
                candidates.append(part)
        best = max(candidates, key=lambda trial: trial["closed"])
        best["chosen"] = True
        return ScreenResult({"hookpoint": best["hookpoint"]}, trials)

    def choose_numbers(self, noun: str, measured: Mapping[str, Measurement]) -> ScreenResult:
        """The number of features and the scale, where the recipe gives a choice.

        noun: what is counted, `features` or `directions`.
        """
        recipe, screen = self.context.recipe, self.context.recipe.screen
        if screen is None or not (screen.features or screen.scales):
            return ScreenResult({}, [])
        hookpoints = " + ".join(recipe.all_hookpoints)
        by_count: dict[int, list[Trial]] = {}
        with self.context.ledger.stage(STAGE):
            development = self.development
            for count in sorted(screen.features or (recipe.features,)):
                patches, trials = patches_of(measured, count), by_count.setdefault(count, [])
                for scale in screen.scales or (recipe.scale,):
                    with waiting(f"trying {count} {noun} at scale {scale:g}"):
                        closed = development.closed({at: _scaled(patch, scale) for at, patch in patches.items()})
                    trials.append(_trial(hookpoints, f"{count} {noun}", scale, closed))
        count, best = _fewest_sufficient(by_count)
        best["chosen"] = True
        every = [trial for trials in by_count.values() for trial in trials]
        return ScreenResult({"features": count, "scale": best["scale"]}, every)


def settle_and_measure(
    context: ExtractionContext, batches: list[Batch], noun: str, measure: Callable[[str, Patches], M]
) -> SettledMeasurements[M]:
    """Measure every hookpoint and settle what the recipe leaves open. The recipe changes at two points, so the order
    matters:

    1. The layer is chosen; from here on the hookpoints are known, and it is checked that they can be patched.
    2. Every hookpoint is measured, the shallowest first: `measure(hookpoint, patches of those before it)`. These
       patches have the recipe's own number of features and scale, which may change afterwards.
    3. Number and scale are chosen, with all hookpoints patched at once; from here on the recipe says what the teacher
       is.
    """
    screen = PatchScreen(context)
    layer = screen.choose_layer(batches)
    context.update_recipe(**layer.choices)
    check_patch(context)

    measured: dict[str, M] = {}
    for hookpoint in context.recipe.all_hookpoints:
        before = patches_of(measured, context.recipe.features)
        measured[hookpoint] = measure(hookpoint, before)

    numbers = screen.choose_numbers(noun, measured)
    context.update_recipe(**numbers.choices)
    return SettledMeasurements(measured, layer.trials + numbers.trials)


def patches_of(measured: Mapping[str, Measurement], count: int) -> Patches:
    return {hookpoint: measurement.patch(count) for hookpoint, measurement in measured.items()}


def print_table(context: ExtractionContext, trials: list[Trial]) -> None:
    """What was tried, before training."""
    if trials:
        context.progress.say(f"  {'hookpoint':<20} {'patch':<16} {'scale':>5}  {'KL closed, %':>12}")
    for trial in trials:
        closed, mark = 100 * trial["closed"], "  <- chosen" if trial["chosen"] else ""
        context.progress.say(
            f"  {trial['hookpoint']:<20} {trial['patch']:<16} {trial['scale']:>5g}  {closed:>12.1f}{mark}"
        )


def _trial(hookpoint: str, patch: str, scale: float, closed: float) -> Trial:
    return {"hookpoint": hookpoint, "patch": patch, "scale": scale, "closed": round(closed, 4), "chosen": False}


def _fewest_sufficient(by_count: Mapping[int, list[Trial]]) -> tuple[int, Trial]:
    """The smallest number of features that closes nearly as much as the best one, and its best trial."""
    most = max(trial["closed"] for trials in by_count.values() for trial in trials)

    def is_enough(trial: Trial) -> bool:
        # The best itself is always enough: where it is negative, 0.95 of it would be more than it is.
        return trial["closed"] >= SUFFICIENT_SHARE * most or trial["closed"] == most

    count = min(count for count, trials in by_count.items() if any(map(is_enough, trials)))
    return count, max(by_count[count], key=lambda trial: trial["closed"])


def _whole_difference(source: Tensor, reference: Tensor) -> Tensor:
    return source - reference


def _scaled(patch: Patch, scale: float) -> Patch:
    """The product is taken before the patch is rounded to the model's precision."""
    return lambda source, reference: scale * patch(source, reference)
