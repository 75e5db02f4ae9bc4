"""What every method starts from and what it hands back."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from transformers import PreTrainedModel

from ...config.recipe import Recipe, Rollouts
from ...core.memory import free_memory
from ..distributed import ProcessGroup
from ..model.lora import State
from ..model.tokens import Batch
from ..sae.train import TrainedSae
from .inputs import MethodInputs, RunResources
from .models import ExtractionModels
from .texts import ExtractionTexts


class MethodOutput(NamedTuple):
    state: State
    """The LoRA, tensor by tensor."""
    layers: list[int] | None
    """Layers that carry the LoRA; None for all."""
    saes: Mapping[str, TrainedSae]
    """By hookpoint."""
    probe_texts: tuple[str, ...]
    """On which the effect of the finished adapter is measured."""
    tokens: int
    """Seen in training, by SAE and LoRA together."""
    findings: dict[str, Any]
    """What the method reports about itself, for the manifest."""

    @property
    def sae(self) -> TrainedSae | None:
        """The SAE of the first hookpoint."""
        return next(iter(self.saes.values()), None)


class ExtractionContext:
    """One extraction: its recipe, and the models, texts and resources that a method works with.

    Its parts stand in files of their own: `models` (loading), `texts` (token batches and rollouts); stage I with its
    finished SAEs is `stage_one.py`, which takes the context.
    """

    def __init__(self, recipe: Recipe, inputs: MethodInputs, resources: RunResources) -> None:
        self.recipe, self.inputs = recipe, inputs
        self.models = ExtractionModels(inputs, recipe.dtype)
        self.texts = ExtractionTexts(recipe, inputs, self.models, resources)
        self.progress, self.ledger, self.disk = resources.progress, resources.ledger, resources.disk
        self.memory = free_memory() // 2 if resources.memory is None else resources.memory

    @property
    def source(self) -> PreTrainedModel:
        return self.models.source

    @property
    def target(self) -> PreTrainedModel:
        return self.models.target

    @property
    def processes(self) -> ProcessGroup:
        """The processes that run this extraction together."""
        return self.ledger.processes

    @property
    def examples_folder(self) -> Path | None:
        """Where the teacher's states go that do not fit into memory."""
        return self.ledger.folder / "examples" if self.ledger.folder else None

    @cached_property
    def rollout_settings(self) -> Rollouts:
        return self.recipe.rollouts or Rollouts()

    def update_recipe(self, **choices: Any) -> None:
        """Replace fields of the recipe by what the screen chose; every later reading of `recipe` sees them.

        Each is chosen once, and before anything depends on it (see `feature_diff.prepare`): `hookpoint` before anything
        is measured there; `features` and `scale` when all hookpoints are measured and before the teacher is built.
        Nothing that models or texts are made of (dtype, seed, rollouts, training) may change here: those are read when
        the context is made.
        """
        self.recipe = msgspec.structs.replace(self.recipe, **choices)

    def rollout_model(self, batch: Batch) -> PreTrainedModel:
        """The model that the teacher is on this batch: the sibling that wrote it, else the target."""
        return self.models.named(batch.writer or "target")

    def reference_model(self, batch: Batch) -> PreTrainedModel:
        """The model with which the source is compared on this batch."""
        return self.rollout_model(batch) if self.rollout_settings.difference == "sibling" else self.target


def held_out(batches: list[Batch]) -> tuple[list[Batch], list[Batch]]:
    """(training, held-out) parts: the last tenth judges the SAE."""
    cut = max(1, len(batches) * 9 // 10) if len(batches) > 1 else 1
    return batches[:cut], batches[cut:] or batches[:1]
