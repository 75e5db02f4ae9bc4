"""Control and upper bound: the teacher is the source model itself, on rollouts of the target and its siblings."""

from torch import Tensor

from ..model.partial_forward import last_hidden_state, lm_head
from ..model.tokens import Batch
from .context import ExtractionContext, MethodOutput
from .distill import distill


def run(context: ExtractionContext) -> MethodOutput:
    def teacher(batch: Batch) -> Tensor:
        return last_hidden_state(context.source, batch.ids.to(context.source.device))

    batches = context.texts.training_rollouts()
    return distill(context, batches, teacher, findings={}, teacher_head=lm_head(context.source))
