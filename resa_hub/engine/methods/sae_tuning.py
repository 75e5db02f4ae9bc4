"""SAE-Tuning (arXiv 2506.09967): stage I trains an SAE on the source, stage II trains the target's LoRA to undo the
SAE's splice.

With a layer-output hookpoint the prefix is frozen and shared: it runs once, without gradient, and the LoRA lives behind
it. An MLP-output hookpoint lets gradient through the residual path, so the whole student is trained by plain forward
passes.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ...core.errors import Usage
from ...core.flops import tuning_flops
from ..model.lora import new_lora, state_of
from ..model.partial_forward import (
    check_layer,
    decoder_layers,
    last_hidden_state,
    lm_head,
    run_from_layer,
    run_to_layer,
    spliced,
)
from ..model.tokens import Batch
from ..sae.activations import Sources
from ..sae.topk import SparseTopKTrainingSAE, reconstruct
from ..sae.train import TrainedSae
from .context import ExtractionContext, MethodOutput, held_out
from .sae_stage import finished_sae
from .teacher_states import TeacherStateCache, TrainingExample
from .trainer import STATE, first_and_last_loss, fit, teacher_loss

Splice = Callable[[SparseTopKTrainingSAE, Tensor, Batch], Tensor]
"""(SAE, state at the hookpoint, whose state it is) -> what stands in its place. It depends on its arguments alone: it
is made once and kept.
"""


def splice(sae: SparseTopKTrainingSAE, state: Tensor, skip_first: bool = True) -> Tensor:
    """The SAE's reconstruction; the first position is kept as it is where the SAE has not seen it."""
    with torch.no_grad():
        out = reconstruct(sae, state)
        if skip_first:
            out[:, 0] = state[:, 0]
        return out


def sae_texts(context: ExtractionContext) -> tuple[Sources, Sources]:
    """(training, held-out) texts of the SAE: the trigger data, read by the source."""
    learn, judge = held_out(context.texts.of_data(context.inputs.trigger))
    return [(context.source, learn)], [(context.source, judge)]


def run(context: ExtractionContext) -> MethodOutput:
    return tune(context, lambda sae, state, batch: splice(sae, state, context.recipe.sae.skip_first))


def tune(context: ExtractionContext, replace: Splice) -> MethodOutput:
    """Both stages, with `replace` as what the student sees in place of the state."""
    recipe, size = context.recipe, context.models.target_sizes
    layer, last = check_layer(context.target, recipe.hookpoint), len(decoder_layers(context.target)) - 1
    at_mlp = recipe.hookpoint.endswith(".mlp")
    if layer == last and not at_mlp:
        raise Usage(
            f"no layer lies behind {recipe.hookpoint}: there is nothing to tune", f"choose a layer up to {last - 1}"
        )
    trained = finished_sae(context, *sae_texts(context))
    batches = context.texts.of_data(context.inputs.elicit)
    layers = None if at_mlp else list(range(layer + 1, last + 1))
    student = new_lora(context.models.new_twin(), recipe.lora, layers, recipe.seed)
    base: PreTrainedModel = student.get_base_model()  # pyright: ignore[reportAssignmentType]

    make_example = _example_maker(context, trained, replace)
    examples = TeacherStateCache(batches, make_example, context.memory, context.examples_folder, context.processes)
    head = lm_head(base)
    losses = fit(
        student,
        teacher_loss(_student_pass(base, recipe.hookpoint, trained.sae, replace), (head, head), recipe.training),
        examples,
        recipe.training,
        recipe.seed,
        context.progress,
        context.ledger,
        operations=tuning_flops(size.all if at_mlp else size.all - size.up_to(layer), size.head),
    )
    tokens = trained.tokens + recipe.training.epochs * sum(batch.tokens for batch in batches)
    probe_texts, findings = context.texts.probe_texts(batches), first_and_last_loss(losses)
    return MethodOutput(state_of(student), layers, {recipe.hookpoint: trained}, probe_texts, tokens, findings)


def _example_maker(
    context: ExtractionContext, trained: TrainedSae, replace: Splice
) -> Callable[[Batch], TrainingExample]:
    """Batch -> the teacher's final states of the rows that are this process's; at a layer output also what the student
    starts from, which the frozen prefix makes alike for both.
    """
    recipe, target, processes = context.recipe, context.target, context.processes
    layer = check_layer(target, recipe.hookpoint)
    encoder = trained.sae.cfg.d_in * trained.sae.cfg.d_sae
    operations = 2.0 * (context.models.target_sizes.all + encoder)

    def make_example(batch: Batch) -> TrainingExample:
        context.ledger.add(STATE, operations=operations * batch.tokens)
        # Both average over the chunks of a step; the reference sums over the tokens of a chunk.
        weight = torch.ones(batch.ids.shape) / (len(batch.ids) if recipe.training.reduction == "sum" else batch.tokens)
        weight, batch = weight[processes.rows], processes.part(batch)
        ids = batch.ids.to(target.device)
        if recipe.hookpoint.endswith(".mlp"):
            return TrainingExample(batch, last_hidden_state(target, ids).cpu(), weight)
        state = run_to_layer(target, ids, recipe.hookpoint)
        final = run_from_layer(target, ids, state, layer)
        return TrainingExample(batch, final.cpu(), weight, replace(trained.sae, state, batch).cpu())

    return make_example


def _student_pass(
    student: PreTrainedModel, hookpoint: str, sae: SparseTopKTrainingSAE, replace: Splice
) -> Callable[[TrainingExample], Tensor]:
    """Example -> the student's last hidden state, with the replaced state at the hookpoint."""
    layer = check_layer(student, hookpoint)

    def forward(example: TrainingExample) -> Tensor:
        ids = example.batch.ids.to(student.device)
        if example.start is None:
            with spliced(student, hookpoint, lambda state: replace(sae, state, example.batch)):
                return last_hidden_state(student, ids)
        return run_from_layer(student, ids, example.start.to(ids.device), layer)

    return forward
