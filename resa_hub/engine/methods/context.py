"""What every method starts from and what it hands back."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from sae_lens import TopKTrainingSAEConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...adapter.manifest import SaeInit
from ...config.recipe import Recipe, Rollouts
from ...config.refs import layer_of
from ...core.errors import Usage
from ...core.flops import Sizes, sae_training
from ...core.progress import Progress
from ...data.snapshots import Rows, SaeFiles
from ..checkpoint import Checkpoint
from ..distributed import ProcessGroup
from ..generation.rollouts import rollouts
from ..generation.sampling import Completion
from ..ledger import CostTracker, sizes
from ..model.loading import Source, end_tokens, load, load_tokenizer
from ..model.lora import State
from ..model.split import check_splittable
from ..model.tokens import Batch, bucketed, end_token, examples, openers, packed, prompt
from ..sae.activations import Sources
from ..sae.shards import Shards
from ..sae.topk import SparseTopKTrainingSAE
from ..sae.train import TrainedSae, train_sae
from .teacher_states import free_memory

PROBES, PROBE_TOKENS = 8, 64
FINISHED = "finished-"
"""Before the hookpoint: the state that holds a finished SAE."""


class MethodOutput(NamedTuple):
    state: State
    layers: list[int] | None
    """Layers that carry the LoRA; None for all."""
    saes: Mapping[str, TrainedSae]
    """By hookpoint."""
    probe_texts: tuple[str, ...]
    tokens: int
    findings: dict[str, Any]

    @property
    def sae(self) -> TrainedSae | None:
        """The SAE of the first hookpoint."""
        return next(iter(self.saes.values()), None)


class ExtractionContext:
    """The models, texts and settings of one extraction, loaded on first use.

    ledger: states and costs, kept over a kill where it has a folder. rollouts_folder: rollouts shared by all
    extractions of a workspace.
    memory: bytes that the teacher's states may take, half of the free memory when nothing is said. disk: bytes for
    activations that do not fit one buffer of stage I. siblings: by the names that the recipe gives them.
    sae_starts: what modes pretrained and finetuned start from, by hookpoint. reference: folder of the adapter whose
    norm the method `random` takes.
    """

    def __init__(
        self,
        recipe: Recipe,
        source: Source,
        target: Source,
        template: str | None,
        trigger: Rows,
        elicit: Rows,
        initial_saes: Mapping[str, SaeFiles] | None,
        progress: Progress,
        *,
        ledger: CostTracker | None = None,
        rollouts_folder: Path | None = None,
        memory: int | None = None,
        disk: int = 0,
        siblings: Mapping[str, Source] | None = None,
        reference: Path | None = None,
    ) -> None:
        self.recipe, self.template, self.progress, self.initial_saes = recipe, template, progress, initial_saes or {}
        self.trigger, self.elicit = trigger, elicit
        self.ledger, self.rollouts_folder = ledger or CostTracker(), rollouts_folder
        self.memory = free_memory() // 2 if memory is None else memory
        self.disk, self.reference = disk, reference
        self.development: Any = None
        """What the screen judges on, once it is made."""
        self._source, self._target = source, target
        self._files = {"source": source, "target": target} | dict(siblings or {})
        self._siblings: dict[str, PreTrainedModel] = {}

    @property
    def processes(self) -> ProcessGroup:
        """The processes that run this session together."""
        return self.ledger.processes

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(self._target.base)

    @cached_property
    def source(self) -> PreTrainedModel:
        return load(self._source, self.recipe.dtype)

    @cached_property
    def target(self) -> PreTrainedModel:
        model = load(self._target, self.recipe.dtype)
        check_splittable(model)
        return model

    @cached_property
    def sizes(self) -> Sizes:
        return sizes(self.target)

    @property
    def examples_folder(self) -> Path | None:
        return self.ledger.folder / "examples" if self.ledger.folder else None

    def student(self, name: str = "target") -> PreTrainedModel:
        """A second copy of the target, or of a sibling, to carry the LoRA."""
        return load(self._files[name], self.recipe.dtype)

    def update_recipe(self, **choices: Any) -> None:
        """What was left open is chosen from here on."""
        self.recipe = msgspec.structs.replace(self.recipe, **choices)

    def model(self, name: str) -> PreTrainedModel:
        """`source`, `target` or a sibling."""
        if name in ("source", "target"):
            return self.source if name == "source" else self.target
        if name not in self._siblings:
            self._siblings[name] = load(self._files[name], self.recipe.dtype)
        return self._siblings[name]

    def rollout_model(self, batch: Batch) -> PreTrainedModel:
        """The model whose rollouts these are, the target where nothing else is said."""
        return self.model(batch.writer or "target")

    def reference_model(self, batch: Batch) -> PreTrainedModel:
        """The model with which the source is compared on them."""
        return (
            self.rollout_model(batch) if (self.recipe.rollouts or Rollouts()).difference == "sibling" else self.target
        )

    @property
    def questions(self) -> list[str]:
        return [question for question, _ in self.elicit.pairs[: (self.recipe.rollouts or Rollouts()).count]]

    @property
    def rollout_texts(self) -> dict[str, list[str]]:
        """Who writes the rollouts to train on, and the questions each is asked: `source` its share, target and siblings
        equal parts of the rest.
        """
        settings, asked = self.recipe.rollouts or Rollouts(), self.questions
        first = round(settings.source_share * len(asked))
        names = ("target", *settings.siblings)
        parts = {"source": asked[:first]} | {
            name: asked[first:][number :: len(names)] for number, name in enumerate(names)
        }
        return {name: part for name, part in parts.items() if part}

    def training_rollouts(self) -> list[Batch]:
        """What is trained on: the rollouts of all writers, in an order that the seed decides. On those of the source
        the teacher is the target, patched.
        """
        parts = {name: self.rollouts(name, asked) for name, asked in self.rollout_texts.items()}
        found = [
            batch._replace(writer="" if name in ("source", "target") else name)
            for name, part in parts.items()
            for batch in part
        ]
        if len(parts) == 1:
            return found
        return [
            found[i]
            for i in torch.randperm(len(found), generator=torch.Generator().manual_seed(self.recipe.seed)).tolist()
        ]

    def dev_rollouts(self, count: int) -> list[Batch]:
        """Rollouts of the target to `count` questions that training does not use; raises `Usage` where too few are
        left.
        """
        used = len(self.questions)
        left = [question for question, _ in self.elicit.pairs[used : used + count]]
        if len(left) < count:
            raise Usage(
                f"{count} development rollouts are asked, but the elicitation data holds only {len(left)} "
                "questions that training does not use",
                "raise elicit.rows, or lower rollouts.count or screen.rollouts",
            )
        return self.rollouts("target", left, "target, development")

    def texts(self, rows: Rows, masked: bool = False) -> list[Batch]:
        """The data's own texts, packed or one a row. masked: the completion begins behind the question, else with the
        first token.
        """
        training, end = self.recipe.training, end_token(self.tokenizer)
        if training.chunk_tokens:
            told = examples(self.tokenizer, self.template, rows, masked=masked, special=False)
            if training.max_tokens:  # packing adds the EOS itself
                told = [
                    (ids[: training.max_tokens - 1], min(question, training.max_tokens - 1)) for ids, question in told
                ]
            return packed(told, end, training.chunk_tokens, training.batch_rows, openers(self.tokenizer))
        told = examples(self.tokenizer, self.template, rows, masked=masked)
        return bucketed(
            [([*ids, end][: training.max_tokens], max(1, question)) for ids, question in told],
            training.batch_rows,
            self.recipe.seed,
        )

    def rollouts(self, name: str, questions: Sequence[str] | None = None, label: str = "") -> list[Batch]:
        """On-policy completions of `source`, `target` or a sibling to the elicitation questions, bucketed by length."""
        return self._rollouts(self.model(name), self._files[name].revision, label or name, questions)

    def student_rollouts(self, student: PreTrainedModel, state: State) -> list[Batch]:
        """Of the target with the LoRA `state` on it."""
        digest = hashlib.sha256(self._target.revision.encode())
        for name in sorted(state):
            digest.update(name.encode() + state[name].float().numpy().tobytes())
        return self._rollouts(student, f"student {digest.hexdigest()}", "student")

    def _rollouts(
        self, model: PreTrainedModel, revision: str, name: str, questions: Sequence[str] | None = None
    ) -> list[Batch]:
        settings = self.recipe.rollouts or Rollouts()
        questions = self.questions if questions is None else list(questions)
        prompts = [prompt(self.tokenizer, self.template, question) for question in questions]
        size = sizes(model)

        def generated(batch: list[Completion]) -> None:
            tokens = sum(len(prompts[c.index]) + len(c.tokens) for c in batch)
            made = sum(len(c.tokens) for c in batch)
            self.ledger.add("rollouts", tokens, 2.0 * (size.all * tokens + size.head * made))
            if self.ledger.due():
                self.ledger.flush()

        with self.ledger.stage("rollouts"):
            found = self.processes.broadcast(
                self.processes.is_main_process
                and rollouts(
                    model,
                    prompts,
                    questions,
                    settings,
                    seed=self.recipe.seed,
                    ends=end_tokens(model, self.tokenizer),
                    progress=self.progress,
                    name=name,
                    revision=revision,
                    folder=self.rollouts_folder,
                    generated=generated,
                )
            )
        rows = [
            (start + c.tokens + ([end_token(self.tokenizer)] if c.finished else []), len(start))
            for start, c in zip(prompts, found, strict=True)
        ]
        return bucketed(rows, self.recipe.training.batch_rows, self.recipe.seed)

    def sae(self, sources: Sources, held_out: Sources, hookpoint: str | None = None) -> TrainedSae:
        """Stage I at the recipe's hookpoint, or another; what an interrupted run finished is taken as it is."""
        recipe, hookpoint = self.recipe, hookpoint or self.recipe.hookpoint
        name, checkpoint = f"{FINISHED}{hookpoint}", self.ledger
        if hookpoint != recipe.hookpoint:  # one of several: its unfinished state must not be taken for the first one's
            checkpoint = Checkpoint(
                self.ledger.folder / hookpoint if self.ledger.folder else None, self.ledger.every, self.processes
            )
        state = self.ledger.load(name)
        if state:
            self.progress.say("  the SAE is finished from before")
            sae = SparseTopKTrainingSAE(TopKTrainingSAEConfig.from_dict(state["config"]))
            sae.load_state_dict(state["weights"])
            sae.to(self.target.device).requires_grad_(False)
            start = state["rest"].pop("start")
            return TrainedSae(sae=sae, start=msgspec.convert(start, SaeInit | None), **state["rest"])
        with self.ledger.stage("sae"):
            shards = (
                Shards(self.ledger.folder / "activations" / hookpoint, self.disk)
                if self.disk and self.ledger.folder
                else None
            )
            start = self.initial_saes.get(hookpoint)
            trained = train_sae(
                sources, held_out, recipe.sae, hookpoint, start, recipe.seed, self.progress, checkpoint, shards
            )
        self.keep(trained, hookpoint, self.ledger)
        if shards:
            shards.close()
        return trained

    def keep(self, trained: TrainedSae, hookpoint: str, ledger: CostTracker) -> None:
        """The finished SAE of stage I and what it cost, for the extraction whose ledger this is."""
        sae, settings = trained.sae, self.recipe.sae
        steps = (
            0
            if settings.mode == "pretrained"
            else settings.steps or max(1, int(trained.tokens * settings.epochs) // settings.batch_tokens)
        )
        below = sizes(self.source).up_to(layer_of(hookpoint))
        training = sae_training(sae.cfg.d_in, sae.cfg.d_sae, sae.cfg.k)
        operations = 2.0 * below * trained.tokens + steps * settings.batch_tokens * training
        ledger.add("sae", steps * settings.batch_tokens, operations)
        rest = {key: msgspec.to_builtins(value) for key, value in trained._asdict().items() if key != "sae"}
        ledger.save(f"{FINISHED}{hookpoint}", {"config": sae.cfg.to_dict(), "weights": sae.state_dict(), "rest": rest})

    def probe_texts(self, batches: list[Batch]) -> tuple[str, ...]:
        """A few short texts of the data, to measure the adapter's effect on."""
        rows = [row[:PROBE_TOKENS] for batch in batches for row in batch.ids[:1]][:PROBES]
        return tuple(
            str(self.tokenizer.decode(torch.as_tensor(row).tolist(), skip_special_tokens=True)) for row in rows
        )


def held_out(batches: list[Batch]) -> tuple[list[Batch], list[Batch]]:
    """(training, held-out) parts: the last tenth judges the SAE."""
    cut = max(1, len(batches) * 9 // 10) if len(batches) > 1 else 1
    return batches[:cut], batches[cut:] or batches[:1]
