"""Control and upper bound: the teacher is the source model itself, on rollouts of the target and its siblings."""

from ..model.split import final_state, head
from .context import Extracted, Session
from .distill import distill


def run(session: Session) -> Extracted:
    own = session.own()
    return distill(
        session,
        own,
        lambda batch: final_state(session.source, batch.ids.to(session.source.device)),
        {},
        teacher_head=head(session.source),
    )
