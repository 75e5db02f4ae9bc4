"""How well an SAE describes held-out states, and what the model loses when it is spliced in.

fvu, fvu_without_first: squared error over squared distance from the mean. On real models position 0 holds most of the
variance: the second says more.
l0: mean active latents. dead: share of latents that never fire on these `tokens`.
ce, ce_spliced, ce_zero, ce_mean: cross entropy of the next token, nats, of the model alone, with the SAE spliced in,
with zeros, with the mean state instead.
ce_recovered: (ce_zero - ce_spliced) / (ce_zero - ce), as SAELens' ce_loss_score; left out where zeros cost nothing.
kl: KL(model || model with SAE), nats. Position 0 keeps its own state where the SAE was trained without it;
ce_spliced_with_first and kl_with_first replace it too. All of these are means over the positions behind the first.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from ...core.progress import Progress
from ..model.kl import CHUNK, kl
from ..model.partial_forward import (
    Hidden,
    check_layer,
    last_hidden_state,
    lm_head,
    run_from_layer,
    run_to_layer,
    spliced,
)
from ..model.tokens import Batch
from .activations import Sources
from .topk import SparseTopKTrainingSAE, encode, reconstruct

SPLICED_TOKENS = 1 << 16
"""Each costs five passes of the model; the states of all held-out tokens are looked at."""
MIN_ABLATION_COST = 0.01
"""Nats: where zeros cost less, the share of it that the SAE recovers means nothing."""
Replace = Callable[[Hidden], Hidden]


class _Variance:
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

    def joined(self, other: "_Variance") -> "_Variance":
        both = _Variance()
        both.count = self.count + other.count
        both.error = self.error + other.error
        both.squares = self.squares + other.squares
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
    variance = _Variance()
    for model, batches in held_out:
        for batch in batches:
            state = run_to_layer(model, batch.ids.to(model.device), hookpoint)[:, 1:].flatten(0, 1).float()
            variance.add(state, (state - reconstruct(sae, state)).pow(2).sum(-1))
    return variance.fvu


@torch.no_grad()
def quality(
    sae: SparseTopKTrainingSAE,
    held_out: Sources,
    hookpoint: str,
    skip_first: bool = True,
    progress: Progress = Progress(quiet=True),
) -> dict[str, float]:
    """All figures on held-out tokens, under the names of the module's docstring; memory does not grow with their
    number. skip_first: the SAE was trained without the first position.
    """
    fired = torch.zeros(sae.cfg.d_sae, dtype=torch.bool, device=sae.W_dec.device)
    first, later, active = _Variance(), _Variance(), 0
    means: list[Tensor] = []
    tokens = sum(batch.tokens for _, batches in held_out for batch in batches)
    with progress.stage("judge SAE", tokens, "tokens") as advance:
        for model, batches in held_out:
            later_of_model = _Variance()
            for batch in batches:
                state = run_to_layer(model, batch.ids.to(model.device), hookpoint).float()
                values, indices = encode(sae, state)
                error = (state - reconstruct(sae, state)).pow(2).sum(-1)
                fired[indices[values > 0]] = True
                active += int((values > 0).sum())
                first.add(state[:, 0], error[:, 0])
                for variance in (later, later_of_model):
                    variance.add(state[:, 1:].flatten(0, 1), error[:, 1:].flatten())
                advance(batch.tokens)
            means.append(later_of_model.mean.float())
    whole = first.joined(later)
    figures = {
        "fvu": whole.fvu,
        "fvu_without_first": later.fvu,
        "l0": active / whole.count,
        "dead": 1 - float(fired.float().mean()),
        "tokens": float(whole.count),
    }
    return figures | _splice_losses(sae, held_out, hookpoint, skip_first, means)


class _LossSums:
    """Sums over positions, nats, by the name of the replacement: cross entropies, and KLs from the model itself."""

    def __init__(self) -> None:
        self.positions = 0
        self.entropies: dict[str, float] = {}
        self.kls: dict[str, float] = {}

    def add(self, model: PreTrainedModel, finals: dict[str, Float[Tensor, "n width"]], targets: Tensor) -> None:
        """finals: last hidden states, of the model itself first. targets: the token ids that follow them, [n]."""
        head = lm_head(model)
        self.positions += len(targets)
        for start in range(0, len(targets), CHUNK):
            part = slice(start, start + CHUNK)
            plain = head(finals["model"][part])
            for name, final in finals.items():
                logits = plain if name == "model" else head(final[part])
                entropy = torch.nn.functional.cross_entropy(logits, targets[part], reduction="sum")
                divergence = kl(plain, logits, "teacher-student").sum()
                self.entropies[name] = self.entropies.get(name, 0.0) + float(entropy)
                self.kls[name] = self.kls.get(name, 0.0) + float(divergence)


def _splice_losses(
    sae: SparseTopKTrainingSAE, held_out: Sources, hookpoint: str, skip_first: bool, means: Sequence[Tensor]
) -> dict[str, float]:
    """Cross entropies and KL with the state at the hookpoint replaced; nothing where no text has three tokens.

    means: the mean state of each of the models.
    """
    sums, seen = _LossSums(), 0
    for (model, batches), mean in zip(held_out, means, strict=True):
        replacements = _replacements(sae, mean, skip_first)
        for batch in batches:
            if seen >= SPLICED_TOKENS or batch.ids.shape[1] < 3:
                continue
            seen += batch.tokens
            finals = _finals(model, batch, hookpoint, replacements)
            inner = {name: final[:, 1:-1].flatten(0, 1) for name, final in finals.items()}
            sums.add(model, inner, batch.ids[:, 2:].flatten().to(model.device))
    count = sums.positions
    if not count:
        return {}
    ce = {name: value / count for name, value in sums.entropies.items()}
    figures = {
        "ce": ce["model"],
        "ce_spliced": ce["spliced"],
        "ce_zero": ce["zero"],
        "ce_mean": ce["mean"],
        "kl": sums.kls["spliced"] / count,
    }
    if ce["zero"] - ce["model"] > MIN_ABLATION_COST:
        figures["ce_recovered"] = (ce["zero"] - ce["spliced"]) / (ce["zero"] - ce["model"])
    if skip_first:
        figures |= {"ce_spliced_with_first": ce["with_first"], "kl_with_first": sums.kls["with_first"] / count}
    return figures


def _replacements(sae: SparseTopKTrainingSAE, mean: Tensor, skip_first: bool) -> dict[str, Replace]:
    """What the state at the hookpoint is replaced by, under the names of the figures."""

    def but_first(replace: Replace) -> Replace:
        return (lambda state: torch.cat([state[:, :1], replace(state)[:, 1:]], 1)) if skip_first else replace

    replacements: dict[str, Replace] = {
        "spliced": but_first(lambda state: reconstruct(sae, state)),
        "zero": but_first(torch.zeros_like),
        "mean": but_first(lambda state: mean.to(state.dtype).expand_as(state)),
    }
    if skip_first:
        replacements["with_first"] = lambda state: reconstruct(sae, state)
    return replacements


def _finals(
    model: PreTrainedModel, batch: Batch, hookpoint: str, replacements: dict[str, Replace]
) -> dict[str, Hidden]:
    """The model's last hidden states, its own ("model") and with the state at the hookpoint replaced each way."""
    ids = batch.ids.to(model.device)
    if hookpoint.endswith(".mlp"):
        finals = {"model": last_hidden_state(model, ids)}
        for name, replace in replacements.items():
            with spliced(model, hookpoint, replace):
                finals[name] = last_hidden_state(model, ids)
        return finals
    # A replaced output of a whole layer: only the layers behind it need to run again.
    state, layer = run_to_layer(model, ids, hookpoint), check_layer(model, hookpoint)
    finals = {"model": run_from_layer(model, ids, state, layer)}
    for name, replace in replacements.items():
        finals[name] = run_from_layer(model, ids, replace(state), layer)
    return finals
