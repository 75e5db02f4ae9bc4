"""The token batches of one extraction: the texts of its data, and rollouts (on-policy completions of the elicitation
questions) of its models.
"""

import hashlib
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from ...config.recipe import Recipe, Rollouts
from ...core.errors import Usage
from ...data.snapshots import Rows
from ..cost_tracker import sizes
from ..generation.rollouts import RolloutRequest, rollouts
from ..generation.sampling import Completion
from ..model.loading import end_tokens
from ..model.lora import State
from ..model.shared_base import merged_while_generating
from ..model.tokens import Batch, bucketed, end_token, examples, leading_special_tokens, packed, prompt
from .inputs import MethodInputs, RunResources
from .models import ExtractionModels

PROBES, PROBE_TOKENS = 8, 64
"""Texts on which the effect of the finished adapter is measured, and the length of each."""


class ExtractionTexts:
    """Of the recipe it reads `rollouts`, `training` and `seed`: nothing that a screen chooses."""

    def __init__(self, recipe: Recipe, inputs: MethodInputs, models: ExtractionModels, resources: RunResources) -> None:
        self.settings = recipe.rollouts or Rollouts()
        self.training, self.seed = recipe.training, recipe.seed
        self.template, self.elicit, self.models, self.resources = inputs.template, inputs.elicit, models, resources
        self._asked: set[tuple[str, str, int]] = set()
        """Rollouts that this run has made or read: (name, revision, how many)."""

    @property
    def questions(self) -> list[str]:
        """The elicitation questions that the rollouts to train on answer."""
        return [question for question, _ in self.elicit.pairs[: self.settings.count]]

    @property
    def questions_by_writer(self) -> dict[str, list[str]]:
        """Who writes the rollouts to train on, and the questions each is asked: `source` its share, target and siblings
        equal parts of the rest.
        """
        first = round(self.settings.source_share * len(self.questions))
        parts, rest = {"source": self.questions[:first]}, self.questions[first:]
        writers = ("target", *self.settings.siblings)
        for number, name in enumerate(writers):
            parts[name] = rest[number :: len(writers)]
        return {name: part for name, part in parts.items() if part}

    def training_rollouts(self) -> list[Batch]:
        """What is trained on: the rollouts of all writers, in an order that the seed decides.

        A batch names its writer only where that is a sibling: on rollouts of the source the teacher is the target,
        patched.
        """
        by_writer = {name: self.rollouts(name, questions) for name, questions in self.questions_by_writer.items()}
        batches = []
        for name, part in by_writer.items():
            sibling = "" if name in ("source", "target") else name
            batches += [batch._replace(writer=sibling) for batch in part]
        if len(by_writer) == 1:  # in the order of its buckets, which the seed decides already
            return batches
        order = torch.randperm(len(batches), generator=torch.Generator().manual_seed(self.seed))
        return [batches[i] for i in order.tolist()]

    def dev_rollouts(self, count: int) -> list[Batch]:
        """Rollouts of the target to `count` questions that training does not use; raises `Usage` where too few are
        left.
        """
        used = len(self.questions)
        unused = [question for question, _ in self.elicit.pairs[used : used + count]]
        if len(unused) < count:
            raise Usage(
                f"{count} development rollouts are asked, but the elicitation data holds only {len(unused)} "
                "questions that training does not use",
                "raise elicit.rows, or lower rollouts.count or screen.rollouts",
            )
        return self.rollouts("target", unused, "target, development")

    def rollouts(self, name: str, questions: Sequence[str] | None = None, label: str = "") -> list[Batch]:
        """Completions of `source`, `target` or a sibling, bucketed by length; to the questions of training where none
        are given.
        """
        revision = self.models.files[name].revision
        return self._rollouts(self.models.named(name), revision, label or name, questions)

    def student_rollouts(self, student: PreTrainedModel, state: State) -> list[Batch]:
        """Of the target with the LoRA `state` on it."""
        digest = hashlib.sha256(self.models.files["target"].revision.encode())
        for name in sorted(state):
            digest.update(name.encode() + state[name].float().numpy().tobytes())
        return self._rollouts(student, f"student {digest.hexdigest()}", "student")

    def of_data(self, rows: Rows, masked: bool = False) -> list[Batch]:
        """The data's own texts, packed or one a row. masked: the completion begins behind the question, else with the
        first token.
        """
        training, tokenizer, end = self.training, self.models.tokenizer, end_token(self.models.tokenizer)
        longest = training.max_tokens
        if training.chunk_tokens:
            texts = examples(tokenizer, self.template, rows, masked=masked, special=False)
            if longest:  # packing adds the EOS itself
                texts = [(ids[: longest - 1], min(question, longest - 1)) for ids, question in texts]
            return packed(texts, end, training.chunk_tokens, training.batch_rows, leading_special_tokens(tokenizer))
        texts = examples(tokenizer, self.template, rows, masked=masked)
        whole = [([*ids, end][:longest], max(1, question)) for ids, question in texts]
        return bucketed(whole, training.batch_rows, self.seed)

    def prompts(self, questions: Sequence[str]) -> list[list[int]]:
        return [prompt(self.models.tokenizer, self.template, question) for question in questions]

    def probe_texts(self, batches: list[Batch]) -> tuple[str, ...]:
        """A few short texts of the data, to measure the adapter's effect on."""
        rows = [row[:PROBE_TOKENS] for batch in batches for row in batch.ids[:1]][:PROBES]
        tokenizer = self.models.tokenizer
        return tuple(str(tokenizer.decode(torch.as_tensor(row).tolist(), skip_special_tokens=True)) for row in rows)

    def _rollouts(
        self, model: PreTrainedModel, revision: str, name: str, questions: Sequence[str] | None = None
    ) -> list[Batch]:
        questions = self.questions if questions is None else list(questions)
        prompts = self.prompts(questions)
        ends = end_tokens(model, self.models.tokenizer)
        request = RolloutRequest(prompts, questions, self.settings, self.seed, ends, revision)
        completions = self._complete(model, request, name)
        rows = []
        for start, completion in zip(prompts, completions, strict=True):
            end = [end_token(self.models.tokenizer)] if completion.finished else []
            rows.append((start + completion.tokens + end, len(start)))
        return bucketed(rows, self.training.batch_rows, self.seed)

    def _complete(self, model: PreTrainedModel, request: RolloutRequest, name: str) -> list[Completion]:
        """The main process generates, or reads what is kept; the others are handed its completions."""
        ledger, size = self.resources.ledger, sizes(model)

        def count_cost(batch: list[Completion]) -> None:
            new = sum(len(completion.tokens) for completion in batch)
            tokens = new + sum(len(request.prompts[completion.index]) for completion in batch)
            ledger.add("rollouts", tokens, 2.0 * (size.all * tokens + size.head * new))
            if ledger.due():
                ledger.flush()

        with ledger.stage("rollouts"):
            completions = None
            if ledger.processes.is_main_process:
                folder, progress = self.resources.rollouts_folder, self.resources.progress
                asked = (name, request.revision, len(request.prompts))
                with merged_while_generating(model):
                    completions = rollouts(
                        model, request, folder, progress, name, count_cost, first=asked not in self._asked
                    )
                self._asked.add(asked)
            return ledger.processes.broadcast(completions)
