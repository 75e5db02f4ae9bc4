"""How well an SAE describes held-out states, and what the model loses when it is spliced in.

fvu, fvu_without_first: squared error over squared distance from the mean. On real models position 0 holds most of the
variance: the second tells.
l0: mean active latents. dead: share of latents that never fire on these `tokens`.
ce, ce_spliced, ce_zero, ce_mean: cross entropy of the next token, nats, of the model alone, with the SAE spliced in,
with zeros, with the mean state instead.
ce_recovered: (ce_zero - ce_spliced) / (ce_zero - ce), as SAELens' ce_loss_score; left out where zeros cost nothing. kl:
KL(model || model with SAE), nats. Position 0 keeps its own state where the SAE was trained without it;
ce_spliced_with_first and kl_with_first replace it too. All of these are means over the positions behind the first.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from ...core.progress import Progress
from ..model.kl import CHUNK, kl
from ..model.split import Hidden, check_layer, last_hidden_state, lm_head, run_from_layer, run_to_layer, spliced
from ..model.tokens import Batch
from .activations import Sources
from .codes import encode, reconstruct
from .topk import SparseTopKTrainingSAE

SPLICED_TOKENS = 1 << 16
"""Each costs five passes of the model; the states of all held-out tokens are looked at."""
CHEAP = 0.01
"""Nats: where ablation costs less, no share of it is worth telling."""
Replace = Callable[[Hidden], Hidden]


class _Spread:
    """Streamed squared error and squared distance from the mean, in float64: the difference of two sums loses
    digits.
    """

    def __init__(self) -> None:
        self.count, self.error, self.squares = 0, 0.0, 0.0
        self.total: Tensor | float = 0.0

    def add(self, state: Float[Tensor, "n d_in"], error: Float[Tensor, " n"]) -> None:
        self.count += len(state)
        self.error += float(error.sum(dtype=torch.float64))
        self.squares += float(torch.linalg.vector_norm(state, dtype=torch.float64)) ** 2
        self.total = self.total + state.sum(0, dtype=torch.float64)

    def joined(self, other: "_Spread") -> "_Spread":
        both = _Spread()
        both.count, both.error, both.squares = (
            self.count + other.count,
            self.error + other.error,
            self.squares + other.squares,
        )
        both.total = self.total + other.total
        return both

    @property
    def mean(self) -> Float[Tensor, " d_in"]:
        return torch.as_tensor(self.total) / max(1, self.count)

    @property
    def fvu(self) -> float:
        return self.error / max(self.squares - self.count * float(self.mean.pow(2).sum()), 1e-12)


@torch.no_grad()
def fvu(sae: SparseTopKTrainingSAE, held_out: Sources, hookpoint: str) -> float:
    """Fraction of variance unexplained, the first position left out."""
    spread = _Spread()
    for model, batches in held_out:
        for batch in batches:
            state = run_to_layer(model, batch.ids.to(model.device), hookpoint)[:, 1:].flatten(0, 1).float()
            spread.add(state, (state - reconstruct(sae, state)).pow(2).sum(-1))
    return spread.fvu


@torch.no_grad()
def quality(
    sae: SparseTopKTrainingSAE,
    held_out: Sources,
    hookpoint: str,
    skip_first: bool = True,
    progress: Progress = Progress(quiet=True),
) -> dict[str, float]:
    """All figures on held-out tokens (see above); memory does not grow with their number. skip_first: the SAE was
    trained without the first position.
    """
    fired = torch.zeros(sae.cfg.d_sae, dtype=torch.bool, device=sae.W_dec.device)
    first, later, active = _Spread(), _Spread(), 0
    means: list[Tensor] = []
    with progress.stage(
        "judge SAE", sum(batch.tokens for _, batches in held_out for batch in batches), "tokens"
    ) as advance:
        for model, batches in held_out:
            own = _Spread()
            for batch in batches:
                state = run_to_layer(model, batch.ids.to(model.device), hookpoint).float()
                values, indices = encode(sae, state)
                error = (state - reconstruct(sae, state)).pow(2).sum(-1)
                fired[indices[values > 0]] = True
                active += int((values > 0).sum())
                first.add(state[:, 0], error[:, 0])
                for spread in (later, own):
                    spread.add(state[:, 1:].flatten(0, 1), error[:, 1:].flatten())
                advance(batch.tokens)
            means.append(own.mean.float())
    whole = first.joined(later)
    found = {
        "fvu": whole.fvu,
        "fvu_without_first": later.fvu,
        "l0": active / whole.count,
        "dead": 1 - float(fired.float().mean()),
        "tokens": float(whole.count),
    }
    return found | _consequences(sae, held_out, hookpoint, skip_first, means)


def _consequences(
    sae: SparseTopKTrainingSAE, held_out: Sources, hookpoint: str, skip_first: bool, means: Sequence[Tensor]
) -> dict[str, float]:
    """Cross entropies and KL with the state at the hookpoint replaced."""
    entropies: dict[str, float] = {}
    divergences: dict[str, float] = {}
    count = seen = 0
    for (model, batches), mean in zip(held_out, means, strict=True):
        ways = _ways(sae, mean, skip_first)
        for batch in batches:
            if seen >= SPLICED_TOKENS or batch.ids.shape[1] < 3:
                continue
            seen += batch.tokens
            targets = batch.ids[:, 2:].flatten().to(model.device)
            count += len(targets)
            finals = {
                name: final[:, 1:-1].flatten(0, 1) for name, final in _finals(model, batch, hookpoint, ways).items()
            }
            for start in range(0, len(targets), CHUNK):
                part = slice(start, start + CHUNK)
                plain = lm_head(model)(finals["model"][part])
                for name, final in finals.items():
                    logits = plain if name == "model" else lm_head(model)(final[part])
                    entropies[name] = entropies.get(name, 0.0) + float(
                        torch.nn.functional.cross_entropy(logits, targets[part], reduction="sum")
                    )
                    divergences[name] = divergences.get(name, 0.0) + float(kl(plain, logits, "teacher-student").sum())
    if not count:
        return {}
    ce = {name: value / count for name, value in entropies.items()}
    found = {
        "ce": ce["model"],
        "ce_spliced": ce["spliced"],
        "ce_zero": ce["zero"],
        "ce_mean": ce["mean"],
        "kl": divergences["spliced"] / count,
    }
    if ce["zero"] - ce["model"] > CHEAP:
        found["ce_recovered"] = (ce["zero"] - ce["spliced"]) / (ce["zero"] - ce["model"])
    if skip_first:
        found |= {"ce_spliced_with_first": ce["with_first"], "kl_with_first": divergences["with_first"] / count}
    return found


def _ways(sae: SparseTopKTrainingSAE, mean: Tensor, skip_first: bool) -> dict[str, Replace]:
    def keeping(replace: Replace) -> Replace:
        return (lambda state: torch.cat([state[:, :1], replace(state)[:, 1:]], 1)) if skip_first else replace

    ways: dict[str, Replace] = {
        "spliced": keeping(lambda state: reconstruct(sae, state)),
        "zero": keeping(torch.zeros_like),
        "mean": keeping(lambda state: mean.to(state.dtype).expand_as(state)),
    }
    return ways | ({"with_first": lambda state: reconstruct(sae, state)} if skip_first else {})


def _finals(model: PreTrainedModel, batch: Batch, hookpoint: str, ways: dict[str, Replace]) -> dict[str, Hidden]:
    """The model's final states, its own and with the state at the hookpoint replaced each way."""
    ids = batch.ids.to(model.device)
    if hookpoint.endswith(".mlp"):
        found = {"model": last_hidden_state(model, ids)}
        for name, replace in ways.items():
            with spliced(model, hookpoint, replace):
                found[name] = last_hidden_state(model, ids)
        return found
    state, layer = run_to_layer(model, ids, hookpoint), check_layer(model, hookpoint)
    return {"model": run_from_layer(model, ids, state, layer)} | {
        name: run_from_layer(model, ids, replace(state), layer) for name, replace in ways.items()
    }
