"""Which features: ranked by how much they differ, or by what their difference does to the target's logits."""

import itertools
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...config.refs import layer_of
from ...core.errors import NoEffect, Usage
from ...core.flops import SELECTION_STEPS, SELECTION_TOKENS, comparison_flops, tuning_flops
from ...core.progress import waiting
from ...core.quantities import count as counted
from ..model.kl import chunked_kl
from ..model.partial_forward import Hidden, last_hidden_state, lm_head, run_from_layer
from ..model.tokens import Batch
from ..sae.topk import SparseTopKTrainingSAE, encode
from .activation_patching import Patches, StatePair, states
from .context import ExtractionContext

STAGE = "selection"


class ComparedBatch(NamedTuple):
    """A batch of rollouts as source and reference model see it: made once, looked at in every step."""

    batch: Batch
    states: StatePair
    """At the hookpoint, the reference model's moved by the patches before."""
    source_final: Hidden
    """The source's last hidden state."""


class Ranking(NamedTuple):
    order: Int[Tensor, " latents"]
    """Latents, the best first."""
    share: Float[Tensor, " latents"]
    """Each latent's share of the whole difference."""


class FeaturePatch:
    """The difference in the chosen latents alone, in the model's own coordinates."""

    def __init__(self, sae: SparseTopKTrainingSAE, chosen: Int[Tensor, " count"]) -> None:
        self.sae, self.count, self.directions = sae, len(chosen), sae.W_dec[chosen]
        self.slots = torch.full((sae.cfg.d_sae,), -1, device=sae.W_dec.device)
        self.slots[chosen] = torch.arange(len(chosen), device=self.slots.device)

    def __call__(self, source: Tensor, reference: Tensor) -> Float[Tensor, "rows positions width"]:
        source_latents = gather_latents(self.sae, source, self.slots, self.count)
        reference_latents = gather_latents(self.sae, reference, self.slots, self.count)
        return (source_latents - reference_latents) @ self.directions


def gather_latents(
    sae: SparseTopKTrainingSAE, state: Tensor, slots: Int[Tensor, " latents"], count: int
) -> Float[Tensor, "*n count"]:
    """Activations of the chosen latents only; `slots` maps a latent to its column, -1 for the others."""
    values, indices = encode(sae, state)
    columns = slots[indices]
    # One column more takes what falls outside, and is cut off.
    dense = values.new_zeros(*values.shape[:-1], count + 1)
    dense.scatter_(-1, torch.where(columns < 0, count, columns), torch.where(columns < 0, 0.0, values))
    return dense[..., :count]


def rank(
    context: ExtractionContext, sae: SparseTopKTrainingSAE, batches: list[Batch], hookpoint: str, before: Patches
) -> Ranking:
    """All latents in the order of the recipe's `selection`."""
    tokens = counted(sum(batch.tokens for batch in batches), "token")
    with waiting(f"comparing the features of source and target at {hookpoint}", tokens):
        ranking = by_difference(context, sae, batches, hookpoint, before)
    if context.recipe.selection == "mean":
        return ranking
    with context.ledger.stage(STAGE), waiting(f"choosing features at {hookpoint} by {context.recipe.selection}"):
        sample = compare_states(context, batches, hookpoint, before)
        if context.recipe.selection == "attribution":
            return ranking._replace(order=_descending(attribution(context, sae, sample, hookpoint)))
        return ranking._replace(order=stepwise(context, sae, sample, hookpoint))


@torch.no_grad()
def compare_states(
    context: ExtractionContext, batches: list[Batch], hookpoint: str, before: Patches
) -> list[ComparedBatch]:
    """The first of the batches, up to `SELECTION_TOKENS`; their order is that of the seed, so they are a fair
    sample.
    """
    total = itertools.accumulate(batch.tokens for batch in batches)
    chosen = [batch for batch, tokens in zip(batches, total, strict=True) if tokens <= SELECTION_TOKENS]
    sample = []
    for batch in chosen or batches[:1]:
        context.ledger.add(STAGE, batch.tokens, comparison_flops(context.models.target_sizes.all) * batch.tokens)
        pair = states(context, batch, hookpoint, before)
        final = last_hidden_state(context.source, batch.ids.to(context.source.device))
        sample.append(ComparedBatch(batch, pair, final))
    return sample


@torch.no_grad()
def by_difference(
    context: ExtractionContext, sae: SparseTopKTrainingSAE, batches: list[Batch], hookpoint: str, before: Patches
) -> Ranking:
    """Mean |f_source - f_target| of every latent over the rollouts, the first position left out."""
    total = torch.zeros(sae.cfg.d_sae, device=sae.W_dec.device)
    for batch in batches:
        rows, positions = batch.ids.shape
        difference = torch.zeros(rows, positions - 1, sae.cfg.d_sae, device=sae.W_dec.device)
        pair = states(context, batch, hookpoint, before)
        for state, sign in ((pair.source, 1.0), (pair.reference, -1.0)):
            values, indices = encode(sae, state[:, 1:])
            difference.scatter_add_(-1, indices, sign * values)
        total += difference.abs().sum((0, 1))
    if not total.any():
        raise NoEffect(
            "source and target have equal features at this hookpoint",
            "choose another --layer: up to there the models are the same",
        )
    return Ranking(_descending(total), total / total.sum())


def attribution(
    context: ExtractionContext,
    sae: SparseTopKTrainingSAE,
    sample: list[ComparedBatch],
    hookpoint: str,
    chosen: Int[Tensor, " n"] | None = None,
) -> Float[Tensor, " latents"]:
    """How far each latent's difference lowers KL(source || patched target), to first order: -sum over positions of
    (f_source - f_target) Dec . dKL/dh.

    The gradient is taken where the `chosen` latents are in place; only completions count.
    """
    score = torch.zeros(sae.cfg.d_sae, device=sae.W_dec.device)
    size = context.models.target_sizes
    operations = tuning_flops(size.all - size.up_to(layer_of(hookpoint)), size.head)
    for compared in sample:
        context.ledger.add(STAGE, operations=operations * compared.batch.tokens)
        source, start = compared.states
        if chosen is not None and len(chosen):
            patch = FeaturePatch(sae, chosen)(source, start)
            start = start + context.recipe.scale * patch.to(start.dtype)
        gradient = _gradient(context, compared, hookpoint, start)[:, 1:].float()
        with torch.no_grad():
            effect = gradient @ sae.W_dec.T
            for state, sign in ((source, -1.0), (compared.states.reference, 1.0)):
                values, indices = encode(sae, state[:, 1:])
                score.index_add_(0, indices.flatten(), (sign * values * effect.gather(-1, indices)).flatten())
    return score


def stepwise(
    context: ExtractionContext, sae: SparseTopKTrainingSAE, sample: list[ComparedBatch], hookpoint: str
) -> Int[Tensor, " latents"]:
    """Latents by attribution, a part at a time, each with those chosen before in place: what two features do alike is
    not counted twice.
    """
    tried = context.recipe.screen.features if context.recipe.screen else ()
    most = max(tried, default=context.recipe.features)
    chosen = torch.empty(0, dtype=torch.long, device=sae.W_dec.device)
    for step in range(SELECTION_STEPS):
        part = most * (step + 1) // SELECTION_STEPS - len(chosen)
        if part > 0:
            rest = _rest_in_order(context, sae, sample, hookpoint, chosen)
            chosen = torch.cat([chosen, rest[:part]])
    return torch.cat([chosen, _rest_in_order(context, sae, sample, hookpoint, chosen)])


def _rest_in_order(
    context: ExtractionContext,
    sae: SparseTopKTrainingSAE,
    sample: list[ComparedBatch],
    hookpoint: str,
    chosen: Int[Tensor, " n"],
) -> Int[Tensor, " rest"]:
    """All latents but the chosen ones, by attribution with those in place."""
    order = _descending(attribution(context, sae, sample, hookpoint, chosen))
    return order[~torch.isin(order, chosen)]


def _gradient(context: ExtractionContext, compared: ComparedBatch, hookpoint: str, start: Hidden) -> Hidden:
    """Of KL(source || reference model), summed over the completions, by the reference model's state at the hookpoint;
    taken at `start`.
    """
    batch = compared.batch
    model, ids = context.reference_model(batch), batch.ids.to(context.target.device)
    state = start.detach().clone().requires_grad_(True)
    final = run_from_layer(model, ids, state, layer_of(hookpoint))
    weight = batch.completion.float().to(ids.device)
    # The source's states stand where a teacher's would: the "student" is the reference model.
    chunked_kl(final, compared.source_final, weight, lm_head(model), lm_head(context.source)).backward()
    assert state.grad is not None
    return state.grad


def _descending(score: Float[Tensor, " latents"]) -> Int[Tensor, " latents"]:
    return score.argsort(descending=True, stable=True)


def random_outside(ranking: Ranking, count: int, seed: int) -> Int[Tensor, " count"]:
    """Random active latents from outside the 2k strongest."""
    active = _active_outside(ranking, count)
    return active[torch.randperm(len(active), generator=torch.Generator().manual_seed(seed))[:count]]


def next_outside(ranking: Ranking, count: int, seed: int = 0) -> Int[Tensor, " count"]:
    """The latents just behind the 2k strongest: they differ often, so that a patch of them can be given any norm."""
    return _active_outside(ranking, count)[:count]


def _active_outside(ranking: Ranking, count: int) -> Int[Tensor, " n"]:
    active = ranking.order[2 * count :]
    active = active[ranking.share[active] > 0]
    if len(active) < count:
        raise Usage(
            f"only {len(active)} active features lie outside the strongest {2 * count}",
            f"set features to at most {len(active)}",
        )
    return active
