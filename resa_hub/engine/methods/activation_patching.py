"""The target moved at one or several hookpoints by something that the source has there and it lacks."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from ...config.refs import layer_of
from ...core.errors import Usage
from ..ledger import sizes
from ..model.split import Hidden, check_layer, run_from_layer, run_to_layer, spliced
from ..model.tokens import Batch
from ..sae.train import TrainedSae
from .context import ExtractionContext
from .trainer import STATE

Patch = Callable[[Tensor, Tensor], Float[Tensor, "rows positions width"]]
"""(source's state, the other's state) at the hookpoint -> what is added to the other's."""
Patches = Mapping[str, Patch]
"""By hookpoint, the shallowest first. What a later one sees has been moved by those before it, so no difference is
added twice.
"""
Replace = Callable[[Tensor], Tensor]


class TeacherSetup(NamedTuple):
    """Everything that a method finds before it trains."""

    patches: Patches
    batches: list[Batch]
    """What to train on."""
    findings: dict[str, Any]
    saes: Mapping[str, TrainedSae]


def check_patch(session: ExtractionContext) -> None:
    """Raise `Usage` unless every hookpoint is the output of a layer that the target has: the teacher's suffix starts
    there.
    """
    for hookpoint in session.recipe.all_hookpoints:
        if hookpoint.endswith(".mlp"):
            raise Usage(f"{session.recipe.method} needs a layer-output hookpoint, not {hookpoint}", "choose --layer N")
        check_layer(session.target, hookpoint)


def states(
    session: ExtractionContext, batch: Batch, hookpoint: str, before: Patches | None = None
) -> tuple[Hidden, Hidden]:
    """(the source's state, that of the model it is compared with) at a hookpoint, the latter moved by the patches
    before it.
    """
    reader, ids = session.reference_model(batch), batch.ids.to(session.target.device)
    earlier = {
        at: _add_patch(session, patch, run_to_layer(session.source, ids, at)) for at, patch in (before or {}).items()
    }
    with _all_spliced(reader, earlier):
        own = run_to_layer(reader, ids, hookpoint)
    return run_to_layer(session.source, ids, hookpoint), own


def patched_hidden_state(session: ExtractionContext, batch: Batch, patches: Patches) -> Hidden:
    """Final state of the rollout's writer with the patches in it; position 0 is never patched.

    Where the writer is a sibling and the source is compared with the target, the sibling is moved by what moves the
    target.
    """
    writer, reader, ids = (
        session.rollout_model(batch),
        session.reference_model(batch),
        batch.ids.to(session.target.device),
    )
    first, *later = patches
    layer = layer_of(first)
    moves: dict[str, Tensor] = {}
    replace = {
        at: _add_patch(session, patch, run_to_layer(session.source, ids, at), moves, at)
        for at, patch in patches.items()
    }
    start = replace[first](run_to_layer(reader, ids, first))
    if later or writer is reader:
        with _all_spliced(reader, {at: replace[at] for at in later}):
            moved = run_from_layer(reader, ids, start, layer)
        if writer is reader:
            return moved
    with _all_spliced(writer, {at: lambda state, at=at: state + moves[at] for at in later}):
        return run_from_layer(writer, ids, run_to_layer(writer, ids, first) + moves[first], layer)


def teacher(session: ExtractionContext, patches: Patches) -> Callable[[Batch], Hidden]:
    """`final` for every batch, its operations counted: what the writer's own pass takes is counted by whoever trains on
    it.
    """
    below = 2.0 * sum(sizes(session.source).up_to(layer_of(at)) for at in patches)

    def counted(batch: Batch) -> Hidden:
        session.ledger.add(STATE, operations=below * batch.tokens)
        return patched_hidden_state(session, batch, patches)

    return counted


def _add_patch(
    session: ExtractionContext, patch: Patch, other: Hidden, moves: dict[str, Tensor] | None = None, at: str = ""
) -> Replace:
    """state -> state + patch, which is noted in `moves`."""

    def replace(state: Tensor) -> Tensor:
        added = session.recipe.scale * patch(other, state).to(state.dtype)
        added[:, 0] = 0
        if moves is not None:
            moves[at] = added
        return state + added

    return replace


@contextmanager
def _all_spliced(model: PreTrainedModel, replace: Mapping[str, Replace]) -> Iterator[None]:
    with ExitStack() as stack:
        for hookpoint, function in replace.items():
            stack.enter_context(spliced(model, hookpoint, function))
        yield
