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
from ...core.flops import tuning
from ..model.lora import new_lora, state_of
from ..model.split import check_layer, decoder_layers, last_hidden_state, lm_head, run_from_layer, run_to_layer, spliced
from ..model.tokens import Batch
from ..sae.activations import Sources
from ..sae.codes import reconstruct
from ..sae.topk import SparseTopKTrainingSAE
from .context import ExtractionContext, MethodOutput, held_out
from .teacher_states import TeacherStateCache, TrainingExample
from .trainer import STATE, ends, fit, to_teacher

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


def sae_texts(session: ExtractionContext) -> tuple[Sources, Sources]:
    """(training, held-out) texts of the SAE: the trigger data, read by the source."""
    learn, judge = held_out(session.texts(session.trigger))
    return [(session.source, learn)], [(session.source, judge)]


def run(session: ExtractionContext) -> MethodOutput:
    return tune(session, lambda sae, state, batch: splice(sae, state, session.recipe.sae.skip_first))


def tune(session: ExtractionContext, replace: Splice) -> MethodOutput:
    """Both stages, with `replace` as what the student sees in place of the state."""
    recipe = session.recipe
    layer, last = check_layer(session.target, recipe.hookpoint), len(decoder_layers(session.target)) - 1
    at_mlp = recipe.hookpoint.endswith(".mlp")
    if layer == last and not at_mlp:
        raise Usage(
            f"no layer lies behind {recipe.hookpoint}: there is nothing to tune", f"choose a layer up to {last - 1}"
        )
    trained = session.sae(*sae_texts(session))
    batches = session.texts(session.elicit)
    layers = None if at_mlp else list(range(layer + 1, last + 1))
    student = new_lora(session.student(), recipe.lora, layers, recipe.seed)
    inner: PreTrainedModel = student.get_base_model()  # pyright: ignore[reportAssignmentType]

    size = session.sizes
    above = size.all if at_mlp else size.all - size.up_to(layer)

    def example(batch: Batch) -> TrainingExample:
        session.ledger.add(
            STATE, operations=2.0 * (size.all + trained.sae.cfg.d_in * trained.sae.cfg.d_sae) * batch.tokens
        )
        # Both average over the chunks of a step; the reference sums over the tokens of a chunk.
        weight = torch.ones(batch.ids.shape) / (len(batch.ids) if recipe.training.reduction == "sum" else batch.tokens)
        weight, batch = weight[session.processes.rows], session.processes.part(batch)
        ids = batch.ids.to(session.target.device)
        if at_mlp:
            return TrainingExample(batch, last_hidden_state(session.target, ids).cpu(), weight)
        state = run_to_layer(session.target, ids, recipe.hookpoint)
        return TrainingExample(
            batch,
            run_from_layer(session.target, ids, state, layer).cpu(),
            weight,
            replace(trained.sae, state, batch).cpu(),
        )

    def forward(example: TrainingExample) -> Tensor:
        ids = example.batch.ids.to(session.target.device)
        if example.start is None:
            with spliced(inner, recipe.hookpoint, lambda state: replace(trained.sae, state, example.batch)):
                return last_hidden_state(inner, ids)
        return run_from_layer(inner, ids, example.start.to(ids.device), layer)

    own_head = lm_head(inner)
    examples = TeacherStateCache(batches, example, session.memory, session.examples_folder, session.processes)
    loss = to_teacher(forward, (own_head, own_head), recipe.training)
    losses = fit(
        student,
        loss,
        examples,
        recipe.training,
        recipe.seed,
        session.progress,
        session.ledger,
        tuning(above, size.head),
    )
    tokens = trained.tokens + recipe.training.epochs * sum(batch.tokens for batch in batches)
    return MethodOutput(
        state_of(student), layers, {recipe.hookpoint: trained}, session.probe_texts(batches), tokens, ends(losses)
    )
