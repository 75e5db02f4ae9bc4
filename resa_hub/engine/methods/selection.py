"""Which features: ranked by how much they differ, or by what their difference does to the target's logits."""

import itertools
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...config.refs import layer_of
from ...core.errors import NoEffect, Usage
from ...core.flops import SELECTION_STEPS, SELECTION_TOKENS, comparing, tuning
from ..model.kl import chunked_kl
from ..model.split import Hidden, last_hidden_state, lm_head, run_from_layer
from ..model.tokens import Batch
from ..sae.codes import encode
from ..sae.topk import SparseTopKTrainingSAE
from .activation_patching import Patches, states
from .context import ExtractionContext

STAGE = "selection"


class StateDifferences(NamedTuple):
    """A batch of rollouts as source and target see it: made once, looked at in every step."""

    batch: Batch
    other: Hidden
    """The source's state at the hookpoint."""
    own: Hidden
    """That of the model it is compared with, moved by the patches before."""
    wanted: Hidden
    """The source's final state."""


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

    def __call__(self, other: Tensor, own: Tensor) -> Float[Tensor, "rows positions width"]:
        return (
            gather_latents(self.sae, other, self.slots, self.count)
            - gather_latents(self.sae, own, self.slots, self.count)
        ) @ self.directions


def gather_latents(
    sae: SparseTopKTrainingSAE, state: Tensor, slots: Int[Tensor, " latents"], count: int
) -> Float[Tensor, "*n count"]:
    """Activations of the chosen latents only; `slots` maps a latent to its place, -1 for the others."""
    values, indices = encode(sae, state)
    places = slots[indices]
    dense = values.new_zeros(*values.shape[:-1], count + 1)
    dense.scatter_(-1, torch.where(places < 0, count, places), torch.where(places < 0, 0.0, values))
    return dense[..., :count]


def rank(
    session: ExtractionContext, sae: SparseTopKTrainingSAE, batches: list[Batch], hookpoint: str, before: Patches
) -> Ranking:
    """All latents in the order of the recipe's `selection`."""
    ranking = by_difference(session, sae, batches, hookpoint, before)
    if session.recipe.selection == "mean":
        return ranking
    with session.ledger.stage(STAGE):
        sample = compare_states(session, batches, hookpoint, before)
        if session.recipe.selection == "attribution":
            return ranking._replace(order=_descending(attribution(session, sae, sample, hookpoint)))
        return ranking._replace(order=stepwise(session, sae, sample, hookpoint))


@torch.no_grad()
def compare_states(
    session: ExtractionContext, batches: list[Batch], hookpoint: str, before: Patches
) -> list[StateDifferences]:
    """The first of the batches, up to `SELECTION_TOKENS`; their order is that of the seed, so they are a fair
    sample.
    """
    sizes, sample = itertools.accumulate(batch.tokens for batch in batches), []
    for batch in [batch for batch, upto in zip(batches, sizes, strict=True) if upto <= SELECTION_TOKENS] or batches[:1]:
        session.ledger.add(STAGE, batch.tokens, comparing(session.sizes.all) * batch.tokens)
        sample.append(
            StateDifferences(
                batch,
                *states(session, batch, hookpoint, before),
                last_hidden_state(session.source, batch.ids.to(session.source.device)),
            )
        )
    return sample


@torch.no_grad()
def by_difference(
    session: ExtractionContext, sae: SparseTopKTrainingSAE, batches: list[Batch], hookpoint: str, before: Patches
) -> Ranking:
    """Mean |f_source - f_target| of every latent over the rollouts, the first position left out."""
    total = torch.zeros(sae.cfg.d_sae, device=sae.W_dec.device)
    for batch in batches:
        dense = torch.zeros(batch.ids.shape[0], batch.ids.shape[1] - 1, sae.cfg.d_sae, device=sae.W_dec.device)
        for state, sign in zip(states(session, batch, hookpoint, before), (1.0, -1.0), strict=True):
            values, indices = encode(sae, state[:, 1:])
            dense.scatter_add_(-1, indices, sign * values)
        total += dense.abs().sum((0, 1))
    if not total.any():
        raise NoEffect(
            "source and target have equal features at this hookpoint",
            "choose another --layer: up to there the models are the same",
        )
    return Ranking(_descending(total), total / total.sum())


def attribution(
    session: ExtractionContext,
    sae: SparseTopKTrainingSAE,
    sample: list[StateDifferences],
    hookpoint: str,
    chosen: Int[Tensor, " n"] | None = None,
) -> Float[Tensor, " latents"]:
    """How far each latent's difference lowers KL(source || patched target), to first order: -sum over positions of
    (f_source - f_target) Dec . dKL/dh.

    The gradient is taken where the `chosen` latents are in place; only completions count.
    """
    score = torch.zeros(sae.cfg.d_sae, device=sae.W_dec.device)
    above = session.sizes.all - session.sizes.up_to(layer_of(hookpoint))
    for batch, other, own, wanted in sample:
        session.ledger.add(STAGE, operations=tuning(above, session.sizes.head) * batch.tokens)
        start = own
        if chosen is not None and len(chosen):
            start = own + session.recipe.scale * FeaturePatch(sae, chosen)(other, own).to(own.dtype)
        gradient = _gradient(session, batch, hookpoint, start, wanted)[:, 1:].float()
        with torch.no_grad():
            effect = gradient @ sae.W_dec.T
            for state, sign in ((other, -1.0), (own, 1.0)):
                values, indices = encode(sae, state[:, 1:])
                score.index_add_(0, indices.flatten(), (sign * values * effect.gather(-1, indices)).flatten())
    return score


def stepwise(
    session: ExtractionContext, sae: SparseTopKTrainingSAE, sample: list[StateDifferences], hookpoint: str
) -> Int[Tensor, " latents"]:
    """Latents by attribution, a part at a time, each with those chosen before in place: what two features do alike is
    not counted twice.
    """
    wanted = (
        max(session.recipe.screen.features, default=session.recipe.features)
        if session.recipe.screen
        else session.recipe.features
    )
    chosen = torch.empty(0, dtype=torch.long, device=sae.W_dec.device)
    for step in range(SELECTION_STEPS):
        part = wanted * (step + 1) // SELECTION_STEPS - len(chosen)
        if part > 0:
            order = _descending(attribution(session, sae, sample, hookpoint, chosen))
            chosen = torch.cat([chosen, order[~torch.isin(order, chosen)][:part]])
    order = _descending(attribution(session, sae, sample, hookpoint, chosen))
    return torch.cat([chosen, order[~torch.isin(order, chosen)]])


def _gradient(session: ExtractionContext, batch: Batch, hookpoint: str, start: Hidden, wanted: Hidden) -> Tensor:
    """Of KL(source || model), summed over the completions, by the state at the hookpoint."""
    reader, ids = session.reference_model(batch), batch.ids.to(session.target.device)
    state = start.detach().clone().requires_grad_(True)
    found = run_from_layer(reader, ids, state, layer_of(hookpoint))
    chunked_kl(
        found, wanted, batch.completion.float().to(ids.device), lm_head(reader), lm_head(session.source)
    ).backward()
    assert state.grad is not None
    return state.grad


def _descending(score: Float[Tensor, " latents"]) -> Int[Tensor, " latents"]:
    return score.argsort(descending=True, stable=True)


def random_outside(ranking: Ranking, count: int, seed: int) -> Int[Tensor, " count"]:
    """Random active latents from outside the 2k strongest."""
    active = _outside(ranking, count)
    return active[torch.randperm(len(active), generator=torch.Generator().manual_seed(seed))[:count]]


def next_outside(ranking: Ranking, count: int, seed: int = 0) -> Int[Tensor, " count"]:
    """The latents just behind the 2k strongest: they differ often, so that a patch of them can be given any norm."""
    return _outside(ranking, count)[:count]


def _outside(ranking: Ranking, count: int) -> Int[Tensor, " n"]:
    active = ranking.order[2 * count :]
    active = active[ranking.share[active] > 0]
    if len(active) < count:
        raise Usage(
            f"only {len(active)} active features lie outside the strongest {2 * count}",
            f"set features to at most {len(active)}",
        )
    return active
