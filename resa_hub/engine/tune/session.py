"""What every method starts from and what it hands back."""

from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...progress import Progress
from ...recipe import Recipe, Rollouts
from ...sources import Rows
from ..generate.noise import uniforms
from ..generate.sampling import generate
from ..lora import State
from ..models import Source, end_tokens, load, load_tokenizer
from ..sae.train import Trained
from ..text import Batch, bucketed, end_token, prompt

PROBES, PROBE_TOKENS = 8, 64


class Extracted(NamedTuple):
    state: State
    layers: list[int] | None
    """Layers that carry the LoRA; None for all."""
    sae: Trained | None
    probe_texts: tuple[str, ...]
    tokens: int
    findings: dict[str, Any]


class Session:
    """The models, texts and settings of one extraction, loaded on first use."""

    def __init__(
        self, recipe: Recipe, source: Source, target: Source, template: str | None, trigger: Rows, elicit: Rows, sae_start: Path | None, progress: Progress
    ) -> None:
        self.recipe, self.template, self.progress, self.sae_start = recipe, template, progress, sae_start
        self.trigger, self.elicit = trigger, elicit
        self._source, self._target = source, target

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(self._target.base)

    @cached_property
    def source(self) -> PreTrainedModel:
        return load(self._source, self.recipe.dtype)

    @cached_property
    def target(self) -> PreTrainedModel:
        return load(self._target, self.recipe.dtype)

    def student(self) -> PreTrainedModel:
        """A second copy of the target, to carry the LoRA."""
        return load(self._target, self.recipe.dtype)

    def rollouts(self, model: PreTrainedModel, name: str) -> list[Batch]:
        """On-policy completions of a model to the elicitation questions, bucketed by length."""
        settings = self.recipe.rollouts or Rollouts()
        questions = [question for question, _ in self.elicit.pairs[: settings.count]]
        prompts = [prompt(self.tokenizer, self.template, question) for question in questions]
        noise = uniforms(self.recipe.seed, [(question, 0) for question in questions], settings.new_tokens)
        ends = end_tokens(model, self.tokenizer)
        rows: list[tuple[list[int], int]] = [([], 0)] * len(prompts)
        with self.progress.stage(f"rollouts of the {name}", len(prompts), "rollouts") as advance:
            for done in generate(model, prompts, noise, temperature=settings.temperature, end_tokens=ends):
                for completion in done:
                    start = prompts[completion.index]
                    end = [end_token(self.tokenizer)] if completion.finished else []
                    rows[completion.index] = (start + completion.tokens + end, len(start))
                advance(len(done))
        return bucketed(rows, self.recipe.training.batch_rows, self.recipe.seed)

    def probe_texts(self, batches: list[Batch]) -> tuple[str, ...]:
        """A few short texts of the data, to measure the adapter's effect on."""
        rows = [row[:PROBE_TOKENS] for batch in batches for row in batch.ids[:1]][:PROBES]
        return tuple(str(self.tokenizer.decode(torch.as_tensor(row).tolist(), skip_special_tokens=True)) for row in rows)


def held_out(batches: list[Batch]) -> tuple[list[Batch], list[Batch]]:
    """(training, held-out) parts: the last tenth judges the SAE."""
    cut = max(1, len(batches) * 9 // 10) if len(batches) > 1 else 1
    return batches[:cut], batches[cut:] or batches[:1]
