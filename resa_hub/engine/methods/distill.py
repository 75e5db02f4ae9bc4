"""Distillation on on-policy rollouts: the methods differ only in the teacher."""

from collections.abc import Callable, Mapping
from typing import Any

from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from ...core.flops import tuning_flops
from ..model.kl import Head
from ..model.lora import new_lora, share_lora, state_of
from ..model.partial_forward import last_hidden_state, lm_head
from ..model.tokens import Batch
from ..sae.train import TrainedSae
from .context import ExtractionContext, MethodOutput
from .teacher_states import TeacherStateCache, TrainingExample
from .trainer import STATE, first_and_last_loss, fit, teacher_loss


def distill(
    context: ExtractionContext,
    batches: list[Batch],
    teacher: Callable[[Batch], Tensor],
    findings: Mapping[str, Any],
    saes: Mapping[str, TrainedSae] = {},
    teacher_head: Head | None = None,
) -> MethodOutput:
    """LoRA on all layers of the target, KL on the completion tokens. From the second round on it is trained on rollouts
    of the student as it stands.

    teacher: its last hidden state [rows, positions, width] of a batch. findings: those made before training.
    teacher_head: the student's own where none is given.
    """
    recipe, size = context.recipe, context.models.target_sizes
    student = new_lora(context.models.new_twin(), recipe.lora, None, recipe.seed)
    base: PreTrainedModel = student.get_base_model()  # pyright: ignore[reportAssignmentType]
    head = lm_head(base)
    loss = teacher_loss(_student_pass(context, student, batches), (head, teacher_head or head), recipe.training)
    make_example = _example_maker(context, teacher, saes)
    probe_texts = context.texts.probe_texts(batches)
    tokens = sum(trained.tokens for trained in saes.values())
    findings = dict(findings)
    for number in range(1, recipe.rounds + 1):
        if number > 1:
            batches = context.texts.student_rollouts(base, state_of(student))
        losses = fit(
            student,
            loss,
            TeacherStateCache(batches, make_example, context.memory, context.examples_folder, context.processes),
            recipe.training,
            recipe.seed,
            context.progress,
            context.ledger,
            operations=tuning_flops(size.all, size.head),
            state=STATE if number == 1 else f"{STATE}-{number}",
        )
        tokens += recipe.training.epochs * sum(batch.tokens for batch in batches)
        ends = first_and_last_loss(losses)
        findings |= ends if number == 1 else {f"round_{number}": ends}
    return MethodOutput(state_of(student), None, saes, probe_texts, tokens, findings)


def _example_maker(
    context: ExtractionContext, teacher: Callable[[Batch], Tensor], saes: Mapping[str, TrainedSae]
) -> Callable[[Batch], TrainingExample]:
    """Batch -> the teacher's states of the rows that are this process's, and the weight of their positions."""
    processes = context.processes
    # Two products of the encoder, with the source's states and the target's.
    encoder = sum(4.0 * trained.sae.cfg.d_in * trained.sae.cfg.d_sae for trained in saes.values())
    operations = 2.0 * context.models.target_sizes.all + encoder

    def make_example(batch: Batch) -> TrainingExample:
        context.ledger.add(STATE, operations=operations * batch.tokens)
        # The mean is over the completion tokens of the whole batch, also where this process has some rows of it only.
        completion = batch.completion.float()
        weight = (completion / completion.sum().clamp(min=1))[processes.rows]
        own_rows = processes.part(batch)
        return TrainingExample(own_rows, teacher(own_rows).cpu(), weight)

    return make_example


def _student_pass(
    context: ExtractionContext, student: PeftModel, batches: list[Batch]
) -> Callable[[TrainingExample], Tensor]:
    """Example -> the last hidden state of the model that carries the LoRA on it: the target, or, with
    `rollouts.student: writer`, the sibling that wrote the batch. One LoRA then stands on all of them at once; their
    heads are the target's, or as good as.
    """
    carriers: dict[str, Any] = {"": student.get_base_model()}
    if context.rollout_settings.student == "writer":
        for name in sorted({batch.writer for batch in batches if batch.writer}):
            sibling = share_lora(student, context.models.new_twin(name), context.recipe.lora)
            carriers[name] = sibling.train().get_base_model()

    def forward(example: TrainingExample) -> Tensor:
        model: PreTrainedModel = carriers.get(example.batch.writer, carriers[""])
        return last_hidden_state(model, example.batch.ids.to(model.device))

    return forward
