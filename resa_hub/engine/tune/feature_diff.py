"""Feature-difference distillation, our own method: the teacher is the target moved by the SAE features in which the source differs most.

Teacher = target's suffix on h_target + Dec_k(f_source - f_target) at the hookpoint, restricted to k features; student = target + LoRA.
The control `random-features` takes k active features from outside the 2k strongest: what it gains is not due to the features.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...errors import NoEffect, Usage
from ..sae.codes import encode
from ..sae.topk import SparseTopKTrainingSAE
from ..split import prefix
from ..text import Batch
from .distill import check_patch, distill, patched_teacher
from .session import Extracted, Session, held_out


class Ranking(NamedTuple):
    order: Int[Tensor, " latents"]
    """Latents by mean |difference|, largest first."""
    share: Float[Tensor, " latents"]
    """Each latent's share of the whole difference."""


def run(session: Session) -> Extracted:
    return _run(session, random=False)


def run_random(session: Session) -> Extracted:
    return _run(session, random=True)


def _run(session: Session, random: bool) -> Extracted:
    recipe = session.recipe
    check_patch(session)
    own = session.rollouts(session.target, "target")
    train_own, test_own = held_out(own)
    sources, tests = [(session.target, train_own)], [(session.target, test_own)]
    if recipe.rollouts is None or recipe.rollouts.of_source:
        train_other, test_other = held_out(session.rollouts(session.source, "source"))
        sources.insert(0, (session.source, train_other))
        tests.insert(0, (session.source, test_other))
    trained = session.sae(sources, tests)
    ranking = rank(session, trained.sae, own)
    chosen = choose(ranking, recipe.features, recipe.seed) if random else ranking.order[: recipe.features]
    findings = {"features": chosen.tolist(), "share": [round(float(ranking.share[i]), 5) for i in chosen], "share_of_all": float(ranking.share[chosen].sum())}
    slots = torch.full((trained.sae.cfg.d_sae,), -1, device=trained.sae.W_dec.device)
    slots[chosen] = torch.arange(len(chosen), device=slots.device)
    directions = trained.sae.W_dec[chosen]

    def patch(other: Tensor, own_state: Tensor) -> Tensor:
        return (picked(trained.sae, other, slots, len(chosen)) - picked(trained.sae, own_state, slots, len(chosen))) @ directions

    return distill(session, own, patched_teacher(session, patch), findings, trained, tokens=trained.tokens)


def picked(sae: SparseTopKTrainingSAE, state: Tensor, slots: Int[Tensor, " latents"], count: int) -> Float[Tensor, "*n count"]:
    """Activations of the chosen latents only; `slots` maps a latent to its place, -1 for the others."""
    values, indices = encode(sae, state)
    places = slots[indices]
    dense = values.new_zeros(*values.shape[:-1], count + 1)
    dense.scatter_(-1, torch.where(places < 0, count, places), torch.where(places < 0, 0.0, values))
    return dense[..., :count]


@torch.no_grad()
def rank(session: Session, sae: SparseTopKTrainingSAE, batches: list[Batch]) -> Ranking:
    """Mean |f_source - f_target| of every latent over the target's rollouts, the first position left out."""
    total = torch.zeros(sae.cfg.d_sae, device=sae.W_dec.device)
    for batch in batches:
        ids = batch.ids.to(session.target.device)
        dense = torch.zeros(ids.shape[0], ids.shape[1] - 1, sae.cfg.d_sae, device=ids.device)
        for model, sign in ((session.source, 1.0), (session.target, -1.0)):
            values, indices = encode(sae, prefix(model, ids, session.recipe.hookpoint)[:, 1:])
            dense.scatter_add_(-1, indices, sign * values)
        total += dense.abs().sum((0, 1))
    if not total.any():
        raise NoEffect("source and target have equal features at this hookpoint", "choose another --layer: up to there the models are the same")
    return Ranking(total.argsort(descending=True, stable=True), total / total.sum())


def choose(ranking: Ranking, count: int, seed: int) -> Int[Tensor, " count"]:
    """Random active latents from outside the 2k strongest."""
    active = ranking.order[2 * count :]
    active = active[ranking.share[active] > 0]
    if len(active) < count:
        raise Usage(f"only {len(active)} active features lie outside the strongest {2 * count}", f"set features to at most {len(active)}")
    return active[torch.randperm(len(active), generator=torch.Generator().manual_seed(seed))[:count]]
