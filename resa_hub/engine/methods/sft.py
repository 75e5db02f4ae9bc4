"""Baseline without an SAE and without a teacher: the LoRA learns the elicitation data's own texts by cross-entropy.

With bare answers this is the paper's "SFT on the same data"; with `elicit.cot` the texts hold the data set's chain of
thought. The source plays no part: what this adapter gains, the data alone taught it.
"""

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from ...core.errors import RunFailed
from ...core.flops import supervised_flops
from ..model.kl import Head, chunked
from ..model.lora import new_lora, state_of
from ..model.partial_forward import last_hidden_state, lm_head
from ..model.tokens import Batch
from .context import ExtractionContext, MethodOutput
from .teacher_states import TrainingExample
from .trainer import Loss, first_and_last_loss, fit


def run(context: ExtractionContext) -> MethodOutput:
    recipe = context.recipe
    batches = context.texts.of_data(context.inputs.elicit, masked=recipe.training.mask_prompt)
    examples = _examples(context, batches)
    student = new_lora(context.models.new_twin(), recipe.lora, None, recipe.seed)
    base: PreTrainedModel = student.get_base_model()  # pyright: ignore[reportAssignmentType]
    size = context.models.target_sizes
    losses = fit(
        student,
        next_token(base, lm_head(base)),
        examples,
        recipe.training,
        recipe.seed,
        context.progress,
        context.ledger,
        operations=supervised_flops(size.all, size.head),
    )
    tokens = recipe.training.epochs * sum(batch.tokens for batch in batches)
    findings = first_and_last_loss(losses, "loss")
    return MethodOutput(state_of(student), None, {}, context.texts.probe_texts(batches), tokens, findings)


def _examples(context: ExtractionContext, batches: list[Batch]) -> list[TrainingExample]:
    """The rows that are this process's, of every batch with something to learn; raises `RunFailed` without one."""
    rows, part = context.processes.rows, context.processes.part
    examples = []
    for batch in batches:
        weight = weights(batch, context.recipe.training.reduction)
        if weight.any():  # a chunk may lie inside one long question
            examples.append(TrainingExample(part(batch), None, weight[rows]))
    if not examples:
        raise RunFailed(
            "the data hold no token of a completion to learn", "--set training.mask_prompt=false, or use more rows"
        )
    return examples


def weights(batch: Batch, reduction: str) -> Tensor:
    """[rows, positions]: what each position counts. The last one has no next token; `sum` is over the tokens of a row,
    `mean` over all of them.
    """
    counted = batch.completion.float()
    counted[:, -1] = 0
    return counted / (len(batch.ids) if reduction == "sum" else counted.sum().clamp(min=1))


def next_token(model: PreTrainedModel, head: Head) -> Loss:
    """sum_t weight_t * -log p(token t+1 | tokens up to t), in nats."""

    def loss(example: TrainingExample) -> Tensor:
        ids = example.batch.ids.to(model.device)
        state = last_hidden_state(model, ids).flatten(0, 1)
        weight = example.weight.to(model.device).flatten()
        learnt = weight > 0
        following = torch.roll(ids, -1, dims=1).flatten()[learnt]

        def measure(logits: Tensor, part: slice, weights: Tensor) -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                leaf = logits.requires_grad_(True)
                losses = functional.cross_entropy(leaf, following[part], reduction="none")
            return losses.detach(), torch.autograd.grad(losses, leaf, weights)[0]

        return chunked(state[learnt], weight[learnt], head, measure)

    return loss
