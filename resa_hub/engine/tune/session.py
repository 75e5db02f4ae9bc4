"""What every method starts from and what it hands back."""

from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from sae_lens import TopKTrainingSAEConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...progress import Progress
from ...recipe import Recipe, Rollouts
from ...refs import layer_of
from ...sources import Rows
from ..cost import Ledger, Sizes, sae_training, sizes
from ..generate.rollouts import rollouts
from ..generate.sampling import Completion
from ..lora import State
from ..models import Source, end_tokens, load, load_tokenizer
from ..sae.activations import Sources
from ..sae.topk import SparseTopKTrainingSAE
from ..sae.train import Trained, train
from ..text import Batch, bucketed, end_token, prompt
from .examples import free_memory

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
    """The models, texts and settings of one extraction, loaded on first use.

    ledger: states and costs, kept over a kill where it has a folder. rollouts_folder: rollouts shared by all extractions of a workspace.
    memory: bytes that the teacher's states may take, half of the free memory when nothing is said.
    """

    def __init__(
        self,
        recipe: Recipe,
        source: Source,
        target: Source,
        template: str | None,
        trigger: Rows,
        elicit: Rows,
        sae_start: Path | None,
        progress: Progress,
        *,
        ledger: Ledger | None = None,
        rollouts_folder: Path | None = None,
        memory: int | None = None,
    ) -> None:
        self.recipe, self.template, self.progress, self.sae_start = recipe, template, progress, sae_start
        self.trigger, self.elicit = trigger, elicit
        self.ledger, self.rollouts_folder = ledger or Ledger(), rollouts_folder
        self.memory = free_memory() // 2 if memory is None else memory
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

    @cached_property
    def sizes(self) -> Sizes:
        return sizes(self.target)

    @property
    def examples_folder(self) -> Path | None:
        return self.ledger.folder / "examples" if self.ledger.folder else None

    def student(self) -> PreTrainedModel:
        """A second copy of the target, to carry the LoRA."""
        return load(self._target, self.recipe.dtype)

    def rollouts(self, model: PreTrainedModel, name: str) -> list[Batch]:
        """On-policy completions of source or target to the elicitation questions, bucketed by length."""
        settings = self.recipe.rollouts or Rollouts()
        questions = [question for question, _ in self.elicit.pairs[: settings.count]]
        prompts = [prompt(self.tokenizer, self.template, question) for question in questions]
        known = next((files for which, files in (("source", self._source), ("target", self._target)) if self.__dict__.get(which) is model), None)
        size = sizes(model)

        def generated(batch: list[Completion]) -> None:
            tokens = sum(len(prompts[c.index]) + len(c.tokens) for c in batch)
            made = sum(len(c.tokens) for c in batch)
            self.ledger.add("rollouts", tokens, 2.0 * (size.all * tokens + size.head * made))
            if self.ledger.due():
                self.ledger.note()

        with self.ledger.stage("rollouts"):
            found = rollouts(
                model, prompts, questions, settings, seed=self.recipe.seed, ends=end_tokens(model, self.tokenizer), progress=self.progress, name=name,
                revision=known.revision if known else "", folder=self.rollouts_folder if known else None, generated=generated,
            )  # fmt: skip
        rows = [
            (start + c.tokens + ([end_token(self.tokenizer)] if c.finished else []), len(start)) for start, c in zip(prompts, found, strict=True)
        ]  # fmt: skip
        return bucketed(rows, self.recipe.training.batch_rows, self.recipe.seed)

    def sae(self, sources: Sources, held_out: Sources) -> Trained:
        """Stage I at the recipe's hookpoint; what an interrupted run finished is taken as it is."""
        recipe, name = self.recipe, f"finished-{self.recipe.hookpoint}"
        state = self.ledger.load(name)
        if state:
            self.progress.say("  the SAE is finished from before")
            sae = SparseTopKTrainingSAE(TopKTrainingSAEConfig.from_dict(state["config"]))
            sae.load_state_dict(state["weights"])
            sae.to(self.target.device).requires_grad_(False)
            return Trained(sae=sae, **state["rest"])
        with self.ledger.stage("sae"):
            trained = train(sources, held_out, recipe.sae, recipe.hookpoint, self.sae_start, recipe.seed, self.progress, self.ledger)
        sae, settings = trained.sae, recipe.sae
        steps = 0 if settings.mode == "pretrained" else settings.steps or max(1, int(trained.tokens * settings.epochs) // settings.batch_tokens)
        below = sizes(self.source).up_to(layer_of(recipe.hookpoint))
        training = sae_training(sae.cfg.d_in, sae.cfg.d_sae, settings.k)
        operations = 2.0 * below * trained.tokens + steps * settings.batch_tokens * training
        self.ledger.add("sae", steps * settings.batch_tokens, operations)
        rest = {key: value for key, value in trained._asdict().items() if key != "sae"}
        self.ledger.save(name, {"config": sae.cfg.to_dict(), "weights": sae.state_dict(), "rest": rest})
        return trained

    def probe_texts(self, batches: list[Batch]) -> tuple[str, ...]:
        """A few short texts of the data, to measure the adapter's effect on."""
        rows = [row[:PROBE_TOKENS] for batch in batches for row in batch.ids[:1]][:PROBES]
        return tuple(str(self.tokenizer.decode(torch.as_tensor(row).tolist(), skip_special_tokens=True)) for row in rows)


def held_out(batches: list[Batch]) -> tuple[list[Batch], list[Batch]]:
    """(training, held-out) parts: the last tenth judges the SAE."""
    cut = max(1, len(batches) * 9 // 10) if len(batches) > 1 else 1
    return batches[:cut], batches[cut:] or batches[:1]
