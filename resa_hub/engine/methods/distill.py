"""Distillation on on-policy rollouts: the methods differ only in the teacher."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from ...config.recipe import Rollouts
from ...core.flops import tuning
from ..model.kl import Head
from ..model.lora import new_lora, share_lora, state_of
from ..model.split import last_hidden_state, lm_head
from ..model.tokens import Batch
from ..sae.train import TrainedSae
from .context import ExtractionContext, MethodOutput
from .teacher_states import TeacherStateCache, TrainingExample
from .trainer import STATE, ends, fit, to_teacher


def distill(
    session: ExtractionContext,
    batches: list[Batch],
    teacher: Callable[[Batch], Tensor],
    findings: dict[str, Any],
    saes: Mapping[str, TrainedSae] | None = None,
    teacher_head: Head | None = None,
) -> MethodOutput:
    """LoRA on all layers of the target, KL on the completion tokens. From the second round on it is trained on rollouts
    of the student as it stands.
    """
    recipe, size, saes, processes = session.recipe, session.sizes, saes or {}, session.processes
    encoder = sum(4.0 * trained.sae.cfg.d_in * trained.sae.cfg.d_sae for trained in saes.values())

    def example(batch: Batch) -> TrainingExample:
        session.ledger.add(STATE, operations=(2.0 * size.all + encoder) * batch.tokens)
        weight = batch.completion.float()
        weight, batch = (weight / weight.sum().clamp(min=1))[processes.rows], processes.part(batch)
        return TrainingExample(batch, teacher(batch).cpu(), weight)

    student = new_lora(session.student(), recipe.lora, None, recipe.seed)
    inner: PreTrainedModel = student.get_base_model()  # pyright: ignore[reportAssignmentType]
    inners = {"": inner} | {
        name: share_lora(student, session.student(name), recipe.lora).train().get_base_model()
        for name in _taught(session, batches)
    }

    def forward(example: TrainingExample) -> Tensor:
        on: PreTrainedModel = inners.get(example.batch.writer, inner)  # pyright: ignore[reportAssignmentType]
        return last_hidden_state(on, example.batch.ids.to(on.device))

    own_head = lm_head(inner)
    probes, tokens = session.probe_texts(batches), sum(trained.tokens for trained in saes.values())
    found = dict(findings)
    loss = to_teacher(forward, (own_head, teacher_head or own_head), recipe.training)
    for number in range(1, recipe.rounds + 1):
        if number > 1:
            batches = session.student_rollouts(inner, state_of(student))
        losses = fit(
            student,
            loss,
            TeacherStateCache(batches, example, session.memory, session.examples_folder, processes),
            recipe.training,
            recipe.seed,
            session.progress,
            session.ledger,
            tuning(size.all, size.head),
            STATE if number == 1 else f"{STATE}-{number}",
        )
        tokens += recipe.training.epochs * sum(batch.tokens for batch in batches)
        found |= ends(losses) if number == 1 else {f"round_{number}": ends(losses)}
    return MethodOutput(state_of(student), None, saes, probes, tokens, found)


def _taught(session: ExtractionContext, batches: list[Batch]) -> list[str]:
    """Siblings on which the LoRA stands while it learns from what they wrote; their heads are the target's, or as good
    as.
    """
    together = (session.recipe.rollouts or Rollouts()).student == "writer"
    return sorted({batch.writer for batch in batches if batch.writer}) if together else []
