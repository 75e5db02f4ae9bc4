"""Activation patching: a model moved at one or several hookpoints by something that the source has there and it lacks.

Three models take part. The *source* has what is to be learnt. The *reference model* is compared with it: the target,
or, with `rollouts.difference: sibling`, the sibling that wrote the batch. The *rollout model* is the teacher: the
sibling that wrote the batch, else the target. Mostly reference and rollout model are one and the same.

Worked example: a batch of 2 rows and 5 positions, models of width 4 and 6 layers, patches at layers.1 and layers.3.
Every state is [2, 5, 4].

    1. source            ids [2, 5] ──> layers 0..1 ──> s1
                         ids [2, 5] ──> layers 0..3 ──> s3

    2. reference model   ids ──> layers 0..1 ──> r1
                         r1 + a1            a1 = scale * patch1(s1, r1), zero at position 0
                            └──> layers 2..3 ──> r3      r3 has been moved by a1 already
                                 r3 + a3    a3 = scale * patch3(s3, r3): what a1 did is not added again
                                    └──> layers 4..5, final norm ──> last hidden state

    3. rollout model     only where it is another model than the reference; no patch is computed here
                         ids ──> layers 0..1 ──> w1
                         w1 + a1 ──> layers 2..3 ──> w3
                                     w3 + a3 ──> layers 4..5, final norm ──> last hidden state

The result is [2, 5, 4]: the last hidden state of pass 3, or of pass 2 where reference and rollout model are one. With
a pass 3 to come, pass 2 ends at layers.3: a1 and a3 are all that is needed of it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from ...config.refs import layer_of
from ...core.errors import Usage
from ..cost_tracker import sizes
from ..model.partial_forward import Hidden, check_layer, run_from_layer, run_to_layer, spliced
from ..model.tokens import Batch
from ..sae.train import TrainedSae
from .context import ExtractionContext
from .trainer import STATE

Patch = Callable[[Tensor, Tensor], Float[Tensor, "rows positions width"]]
"""(source's state, reference model's state) at the hookpoint -> what is added to the latter."""
Patches = Mapping[str, Patch]
"""By hookpoint, the shallowest first. A later one sees a state that those before it have moved, so no difference is
added twice.
"""


class TeacherSetup(NamedTuple):
    """Everything that a method finds before it trains."""

    patches: Patches
    batches: list[Batch]
    """What to train on."""
    findings: dict[str, Any]
    saes: Mapping[str, TrainedSae]


class StatePair(NamedTuple):
    source: Hidden
    reference: Hidden


@dataclass
class PatchHook:
    """One patch at work on one batch: it is computed on the reference model and recorded, so that the rollout model can
    be moved by the very same.
    """

    hookpoint: str
    patch: Patch
    source_state: Hidden
    scale: float
    added: Hidden | None = None
    """What `add_patch` added; None before."""

    def add_patch(self, state: Hidden) -> Hidden:
        """In the reference model: its state + scale * patch, which is recorded. Position 0 is never patched."""
        added = self.scale * self.patch(self.source_state, state).to(state.dtype)
        added[:, 0] = 0
        self.added = added
        return state + added

    def add_recorded(self, state: Hidden) -> Hidden:
        """In the rollout model: its state + what the reference model's was moved by."""
        assert self.added is not None, "the reference model runs first"
        return state + self.added


def check_patch(context: ExtractionContext) -> None:
    """Raise `Usage` unless every hookpoint is the output of a layer that the target has: the pass behind the patch
    starts there.
    """
    for hookpoint in context.recipe.all_hookpoints:
        if hookpoint.endswith(".mlp"):
            raise Usage(f"{context.recipe.method} needs a layer-output hookpoint, not {hookpoint}", "choose --layer N")
        check_layer(context.target, hookpoint)


def states(context: ExtractionContext, batch: Batch, hookpoint: str, before: Patches | None = None) -> StatePair:
    """Source and reference model at a hookpoint, the latter moved by the patches `before` it."""
    model, ids = context.reference_model(batch), batch.ids.to(context.target.device)
    hooks = _patch_hooks(context, batch, before or {}, context.recipe.scale)
    with _hooked(model, {hook.hookpoint: hook.add_patch for hook in hooks}):
        reference = run_to_layer(model, ids, hookpoint)
    return StatePair(run_to_layer(context.source, ids, hookpoint), reference)


def patched_hidden_state(
    context: ExtractionContext, batch: Batch, patches: Patches, scale: float | None = None
) -> Hidden:
    """Last hidden state of the rollout model with the patches in it, [rows, positions, width]; the picture is at the
    top of this file.

    scale: factor on the patches, the recipe's where none is given.
    """
    rollout_model, reference_model = context.rollout_model(batch), context.reference_model(batch)
    ids = batch.ids.to(context.target.device)
    hooks = _patch_hooks(context, batch, patches, context.recipe.scale if scale is None else scale)
    compute = {hook.hookpoint: hook.add_patch for hook in hooks}
    if rollout_model is reference_model:
        return _final_state(reference_model, ids, compute)
    with _hooked(reference_model, compute):
        run_to_layer(reference_model, ids, hooks[-1].hookpoint)
    return _final_state(rollout_model, ids, {hook.hookpoint: hook.add_recorded for hook in hooks})


def teacher(context: ExtractionContext, patches: Patches) -> Callable[[Batch], Hidden]:
    """`patched_hidden_state` of every batch, the operations of pass 1 counted: those of the teacher's own pass are
    counted by whoever trains on it.
    """
    operations = 2.0 * sum(sizes(context.source).up_to(layer_of(hookpoint)) for hookpoint in patches)

    def counted(batch: Batch) -> Hidden:
        context.ledger.add(STATE, operations=operations * batch.tokens)
        return patched_hidden_state(context, batch, patches)

    return counted


def _patch_hooks(context: ExtractionContext, batch: Batch, patches: Patches, scale: float) -> Sequence[PatchHook]:
    """Pass 1: the source's state at each hookpoint."""
    ids = batch.ids.to(context.target.device)
    return [
        PatchHook(hookpoint, patch, run_to_layer(context.source, ids, hookpoint), scale)
        for hookpoint, patch in patches.items()
    ]


def _final_state(model: PreTrainedModel, ids: Tensor, edits: Mapping[str, Callable[[Hidden], Hidden]]) -> Hidden:
    """Last hidden state with each edit applied to the output at its hookpoint, the shallowest first.

    Up to the first hookpoint nothing is edited, so that part needs no gradient and runs on its own.
    """
    first, *later = edits
    start = edits[first](run_to_layer(model, ids, first))
    with _hooked(model, {hookpoint: edits[hookpoint] for hookpoint in later}):
        return run_from_layer(model, ids, start, layer_of(first))


@contextmanager
def _hooked(model: PreTrainedModel, edits: Mapping[str, Callable[[Hidden], Hidden]]) -> Iterator[None]:
    """The model with each edit applied to the output at its hookpoint."""
    with ExitStack() as stack:
        for hookpoint, edit in edits.items():
            stack.enter_context(spliced(model, hookpoint, edit))
        yield
