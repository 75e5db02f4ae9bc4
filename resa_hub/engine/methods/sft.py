"""Baseline without an SAE and without a teacher: the LoRA learns the elicitation data's own texts by cross-entropy.

With bare answers this is the paper's "SFT on the same data"; with `elicit.cot` the texts hold the data set's chain of
thought. The source plays no part: what this adapter gains, the data alone taught it.
"""

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from ...core.errors import RunFailed
from ...core.flops import supervised
from ..model.kl import Head, chunked
from ..model.lora import new_lora, state_of
from ..model.split import last_hidden_state, lm_head
from ..model.tokens import Batch
from .context import ExtractionContext, MethodOutput
from .teacher_states import TrainingExample
from .trainer import Loss, ends, fit


def run(session: ExtractionContext) -> MethodOutput:
    recipe = session.recipe
    batches = session.texts(session.elicit, masked=recipe.training.mask_prompt)
    examples = [TrainingExample(batch, None, weights(batch, recipe.training.reduction)) for batch in batches]
    examples = [example for example in examples if example.weight.any()]  # a chunk may lie inside one long question
    if not examples:
        raise RunFailed(
            "the data hold no token of a completion to learn", "--set training.mask_prompt=false, or use more rows"
        )
    rows, part = session.processes.rows, session.processes.part
    examples = [TrainingExample(part(example.batch), None, example.weight[rows]) for example in examples]
    student = new_lora(session.student(), recipe.lora, None, recipe.seed)
    inner: PreTrainedModel = student.get_base_model()  # pyright: ignore[reportAssignmentType]
    operations = supervised(session.sizes.all, session.sizes.head)
    losses = fit(
        student,
        next_token(inner, lm_head(inner)),
        examples,
        recipe.training,
        recipe.seed,
        session.progress,
        session.ledger,
        operations,
    )
    tokens = recipe.training.epochs * sum(batch.tokens for batch in batches)
    return MethodOutput(state_of(student), None, {}, session.probe_texts(batches), tokens, ends(losses, "loss"))


def weights(batch: Batch, reduction: str) -> Tensor:
    """[rows, positions]: what each position counts. The last one has no next token; `sum` is over the tokens of a row,
    `mean` over all of them.
    """
    counted = batch.completion.float()
    counted[:, -1] = 0
    return counted / (len(batch.ids) if reduction == "sum" else counted.sum().clamp(min=1))


def next_token(model: PreTrainedModel, own_head: Head) -> Loss:
    """sum_t weight_t * -log p(token t+1 | tokens up to t), in nats."""

    def loss(example: TrainingExample) -> Tensor:
        ids = example.batch.ids.to(model.device)
        following = torch.roll(ids, -1, dims=1).flatten()
        state, weight = last_hidden_state(model, ids).flatten(0, 1), example.weight.to(model.device).flatten()
        kept = weight > 0
        wanted = following[kept]

        def measure(logits: Tensor, part: slice, weights: Tensor) -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                leaf = logits.requires_grad_(True)
                losses = functional.cross_entropy(leaf, wanted[part], reduction="none")
            return losses.detach(), torch.autograd.grad(losses, leaf, weights)[0]

        return chunked(state[kept], weight[kept], own_head, measure)

    return loss
