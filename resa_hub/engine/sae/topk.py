"""SAELens' TopK training SAE with a sparse decoder and sparse gradients: only the encoder's forward stays a dense
product.

After 20 Adam steps the parameters equal SAELens' own to 2e-7 (see tests); the trainer, checkpoints and file format are
SAELens'.
"""

import warnings
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from sae_lens import TopKTrainingSAE
from sae_lens.saes.sae import TrainStepInput, TrainStepOutput
from torch import Tensor
from torch.nn import functional

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")


class BufferPool:
    """Memory that every step uses again: asking the system for hundreds of megabytes anew costs a twentieth of a
    step.
    """

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def empty(self, name: str, shape: tuple[int, int], like: Tensor) -> Tensor:
        held = self._held.get(name)
        if held is None or held.shape != shape or held.dtype != like.dtype or held.device != like.device:
            held = self._held[name] = torch.empty(shape, dtype=like.dtype, device=like.device)
        return held


class LatentCSR:
    """The places of the active latents sorted by latent, for the transposed products of the backward pass."""

    def __init__(self, indices: Int[Tensor, "n k"], latents: int) -> None:
        flat = indices.flatten()
        self.order = torch.argsort(flat, stable=True)
        self.rows = torch.zeros(latents + 1, dtype=torch.long, device=flat.device)
        self.rows[1:] = torch.bincount(flat, minlength=latents).cumsum(0)
        self.columns = self.order // indices.shape[1]
        self.shape = (latents, indices.shape[0])

    def summed(
        self, values: Float[Tensor, "n k"], rows: Float[Tensor, "n d_in"], room: BufferPool, name: str
    ) -> Float[Tensor, "latents d_in"]:
        """For every latent the rows where it is active, times its values there; on a CPU it lies in `room` under
        `name`.
        """
        sorted_values = values.flatten()[self.order]
        if rows.device.type != "cpu":
            return (
                torch.sparse_csr_tensor(self.rows, self.columns, sorted_values, self.shape, check_invariants=False)
                @ rows
            )
        out = room.empty(name, (self.shape[0], rows.shape[1]), rows)
        edges = [*range(0, len(out), LATENTS_PER_CHUNK), len(out)]  # a quarter of the time of the sparse product
        for (start, first), (stop, last) in pairwise(zip(edges, self.rows[edges].tolist(), strict=True)):
            out[start:stop] = functional.embedding_bag(
                self.columns[first:last],
                rows,
                self.rows[start : stop + 1] - first,
                mode="sum",
                per_sample_weights=sorted_values[first:last],
                include_last_offset=True,
            )
        return out


LATENTS_PER_CHUNK = 256
"""Latents summed at a time on a CPU: what is made stays in its cache until it is copied to where it belongs."""
TOPK_GROUP = 64
"""Pre-activations are searched in groups of this size."""
CPU_ROWS, OTHER_ENTRIES = 256, 1 << 28
"""Pre-activations made at a time: rows on a CPU, where they then stay in its cache (more for wide inputs, where the
product outweighs that), entries elsewhere. [n, d_sae] never exists whole.
"""


def encode_topk(
    x: Float[Tensor, "n d_in"],
    w_enc: Float[Tensor, "d_in d_sae"],
    b_enc: Float[Tensor, " d_sae"],
    k: int,
    low: bool = False,
    room: BufferPool | None = None,
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """The k largest entries of x W + b in each row and their places, in no order; not differentiable. low: the product
    of bfloat16 factors.
    """
    weights = w_enc
    if low:
        weights, x = w_enc.bfloat16(), x.bfloat16()
        if x.device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            weights, x = (
                weights.float(),
                x.float(),
            )  # without such instructions it would take 5 to 70 times as long as in float32
    rows = max(CPU_ROWS, x.shape[1] // 2) if x.device.type == "cpu" else max(1, OTHER_ENTRIES // w_enc.shape[1])
    made = (room or BufferPool()).empty("pre", (min(rows, len(x)), w_enc.shape[1]), weights)
    parts = [_largest(torch.mm(part, weights, out=made[: len(part)]).float().add_(b_enc), k) for part in x.split(rows)]
    values, indices = (torch.cat(part) for part in zip(*parts, strict=True))
    return values, indices


def _largest(pre: Float[Tensor, "n d_sae"], k: int) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """`pre.topk(k)`: the k largest lie in the k groups with the largest maxima, so on a CPU only those are searched."""
    n, latents = pre.shape
    if pre.device.type != "cpu" or latents % TOPK_GROUP or latents < 4 * k * TOPK_GROUP:
        values, indices = pre.topk(k, dim=-1, sorted=False)
        return values, indices
    count = latents // TOPK_GROUP
    groups = pre.view(n, count, TOPK_GROUP).amax(-1).topk(k, dim=-1, sorted=False).indices
    near = functional.embedding(groups + torch.arange(n)[:, None] * count, pre.view(-1, TOPK_GROUP)).flatten(1)
    values, places = near.topk(k, dim=-1, sorted=False)
    return values, groups.gather(1, places // TOPK_GROUP) * TOPK_GROUP + places % TOPK_GROUP


def _by_value(
    grad: Float[Tensor, "n d_in"], w_dec: Float[Tensor, "d_sae d_in"], indices: Int[Tensor, "n k"]
) -> Float[Tensor, "n k"]:
    """Gradient of each active value: the product of its row and its latent's direction."""
    n, k = indices.shape
    if grad.device.type == "cpu":
        rows = torch.arange(0, n * k + 1, k)
        wanted = torch.sparse_csr_tensor(
            rows, indices.flatten(), grad.new_zeros(n * k), (n, len(w_dec)), check_invariants=False
        )
        return torch.sparse.sampled_addmm(wanted, grad, w_dec.T, beta=0.0).values().view(n, k)
    # In parts: w_dec[indices] would be [n, k, d_in] at once.
    parts = zip(indices.split(256), grad.split(256), strict=True)
    return torch.cat([torch.bmm(w_dec[i], g.unsqueeze(-1)).squeeze(-1) for i, g in parts])


class _Reconstruct(torch.autograd.Function):
    """What SAELens' SAE encodes (the input, without b_dec where `applied`) -> decoded top-k latents. W_enc [d_in,
    d_sae], W_dec [d_sae, d_in].
    """

    @staticmethod
    def forward(ctx, x, w_enc, b_enc, w_dec, b_dec, applied: bool, k: int, low: bool, room: BufferPool | None):  # pyright: ignore[reportIncompatibleMethodOverride]
        values, indices = encode_topk(x, w_enc, b_enc, k, low, room)
        values = values.relu()
        ctx.applied, ctx.room = applied, room or BufferPool()
        ctx.save_for_backward(x, w_enc, w_dec, values, indices)
        ctx.mark_non_differentiable(values, indices)
        return (
            functional.embedding_bag(indices, w_dec, mode="sum", per_sample_weights=values).add_(b_dec),
            values,
            indices,
        )

    @staticmethod
    def backward(ctx, grad, *_):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, w_enc, w_dec, values, indices = ctx.saved_tensors
        latents = w_dec.shape[0]
        grad = grad.contiguous()
        by_value = _by_value(grad, w_dec, indices) * (values > 0)
        places = LatentCSR(indices, latents)
        g_enc, g_dec = places.summed(by_value, x, ctx.room, "enc"), places.summed(values, grad, ctx.room, "dec")
        g_bias = torch.zeros(latents, dtype=grad.dtype, device=grad.device).index_add_(
            0, indices.flatten(), by_value.flatten()
        )
        g_b_dec = grad.sum(0)
        if ctx.applied:  # sum_n W_enc by_latent_n, where the sum over n is the gradient of b_enc
            g_b_dec -= w_enc @ g_bias
        # Views: autograd takes them as they are, where it would copy what is also held elsewhere.
        return None, g_enc.T, g_bias, g_dec[:], g_b_dec, None, None, None, None


class SparseTopKTrainingSAE(TopKTrainingSAE):
    """Needs `rescale_acts_by_decoder_norm=False`: the decoder is kept at unit norm instead."""

    low_precision = False
    """The encoder's product in bfloat16 while training."""
    unit_decoder = True
    """Each latent's direction is kept at norm 1 in training. An SAE that was made otherwise would be another one after
    its first step.
    """
    room: BufferPool | None = None
    """While training: its gradients lie there, so no second backward pass may come before the optimiser's step."""

    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        dead = step_input.dead_neuron_mask
        if dead is not None and bool(dead.any()):
            return super().training_forward_pass(step_input)  # the auxiliary loss needs every pre-activation
        x = step_input.sae_in
        out, values, indices = reconstructed(self, x)
        loss = functional.mse_loss(out, x, reduction="sum") / len(x)
        places = torch.stack([torch.arange(len(x), device=x.device).repeat_interleave(self.cfg.k), indices.flatten()])
        acts = torch.sparse_coo_tensor(places, values.flatten(), (len(x), self.cfg.d_sae), check_invariants=False)
        return TrainStepOutput(
            sae_in=x, sae_out=out, feature_acts=acts, hidden_pre=acts, loss=loss, losses={"mse_loss": loss}
        )


def set_memory_layout(sae: SparseTopKTrainingSAE, *, training: bool) -> None:
    """In training W_enc [d_in, d_sae] lies in memory latent by latent, as its gradient comes: no step has to turn it
    over. Its values stay.
    """
    weight = sae.W_enc.data
    sae.W_enc.data = weight.T.contiguous().T if training else weight.contiguous()
    sae.room = BufferPool() if training else None


def has_unit_decoder(sae: TopKTrainingSAE) -> bool:
    """Whether every direction has norm 1, bfloat16 rounding allowed."""
    return bool(((sae.W_dec.detach().norm(dim=-1) - 1).abs() < 0.01).all())


def reconstructed(
    sae: SparseTopKTrainingSAE, x: Float[Tensor, "n d_in"]
) -> tuple[Float[Tensor, "n d_in"], Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """(reconstruction, values and indices of the active latents); differentiable by the SAE's parameters with sparse
    work only.
    """
    with torch.no_grad():
        entering = sae.process_sae_in(x)
    parameters = sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec
    return _Reconstruct.apply(
        entering, *parameters, sae.cfg.apply_b_dec_to_input, sae.cfg.k, sae.low_precision, sae.room
    )  # pyright: ignore
