"""Control and upper bound: the teacher is the source model itself, on the target's rollouts."""

from ..split import final_state, head
from .distill import distill
from .session import Extracted, Session


def run(session: Session) -> Extracted:
    own = session.rollouts(session.target, "target")
    return distill(session, own, lambda batch: final_state(session.source, batch.ids.to(session.source.device)), {}, teacher_head=head(session.source))
