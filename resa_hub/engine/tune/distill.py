"""Distillation on the target's own rollouts: the methods differ only in the teacher."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from ...errors import Usage
from ..cost import sizes, tuning
from ..kl import Head
from ..lora import new_lora, state_of
from ..sae.train import Trained
from ..split import check_layer, final_state, head, prefix, suffix
from ..text import Batch
from .examples import Example, Examples
from .session import Extracted, Session
from .trainer import STATE, ends, fit

Patch = Callable[[Tensor, Tensor], Float[Tensor, "rows positions width"]]
"""(source's state, target's state) at the hookpoint -> what is added to the target's."""


def check_patch(session: Session) -> None:
    """Raise `Usage` unless the hookpoint is the output of a layer that the target has: the teacher's suffix starts there."""
    if session.recipe.hookpoint.endswith(".mlp"):
        raise Usage(f"{session.recipe.method} needs a layer-output hookpoint, not {session.recipe.hookpoint}", "choose --layer N")
    check_layer(session.target, session.recipe.hookpoint)


def patched_teacher(session: Session, patch: Patch) -> Callable[[Batch], Tensor]:
    """The target's own suffix run on its state plus the patch; position 0 is never patched."""
    hookpoint = session.recipe.hookpoint
    layer = check_layer(session.target, hookpoint)
    below = 2.0 * sizes(session.source).up_to(layer)

    def teacher(batch: Batch) -> Tensor:
        session.ledger.add(STATE, operations=below * batch.tokens)
        ids = batch.ids.to(session.target.device)
        own, other = prefix(session.target, ids, hookpoint), prefix(session.source, ids, hookpoint)
        added = session.recipe.scale * patch(other, own).to(own.dtype)
        added[:, 0] = 0
        return suffix(session.target, ids, own + added, layer)

    return teacher


def distill(
    session: Session,
    batches: list[Batch],
    teacher: Callable[[Batch], Tensor],
    findings: dict[str, Any],
    sae: Trained | None = None,
    teacher_head: Head | None = None,
    tokens: int = 0,
) -> Extracted:
    """LoRA on all layers of the target, KL on the completion tokens."""
    recipe, size = session.recipe, session.sizes
    encoder = 4.0 * sae.sae.cfg.d_in * sae.sae.cfg.d_sae if sae else 0.0

    def example(batch: Batch) -> Example:
        session.ledger.add(STATE, operations=(2.0 * size.all + encoder) * batch.tokens)
        weight = batch.completion.float()
        return Example(batch, teacher(batch).cpu(), weight / weight.sum().clamp(min=1))

    student = new_lora(session.student(), recipe.lora, None, recipe.seed)
    inner: PreTrainedModel = student.get_base_model()  # pyright: ignore[reportAssignmentType]
    own_head = head(inner)
    losses = fit(
        student,
        lambda example: final_state(inner, example.batch.ids.to(inner.device)),
        (own_head, teacher_head or own_head),
        Examples(batches, example, session.memory, session.examples_folder),
        recipe.training,
        recipe.seed,
        session.progress,
        session.ledger,
        tuning(size.all, size.head),
    )
    trained = tokens + recipe.training.epochs * sum(batch.tokens for batch in batches)
    return Extracted(state_of(student), None, sae, session.probe_texts(batches), trained, findings | ends(losses))
