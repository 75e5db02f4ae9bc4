"""Control and upper bound: the teacher is the source model itself, on rollouts of the target and its siblings."""

from ..model.split import last_hidden_state, lm_head
from .context import ExtractionContext, MethodOutput
from .distill import distill


def run(session: ExtractionContext) -> MethodOutput:
    own = session.training_rollouts()
    return distill(
        session,
        own,
        lambda batch: last_hidden_state(session.source, batch.ids.to(session.source.device)),
        {},
        teacher_head=lm_head(session.source),
    )
