"""SAELens' TopK training SAE with a sparse decoder and sparse gradients: only the encoder's forward pass stays a dense
product.

After 20 Adam steps the parameters equal SAELens' own to 2e-7 (see tests); the trainer, checkpoints and file format are
SAELens'.
"""

import warnings
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.saes.sae import SAEMetadata, TrainStepInput, TrainStepOutput
from torch import Tensor
from torch.nn import functional

from ...config.recipe import SaeSettings
from ...config.refs import layer_of
from ...core.errors import Usage

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")

LATENTS_PER_CHUNK = 256
"""Latents summed at a time on a CPU: the sums stay in its cache until they are copied to the gradient."""
TOPK_GROUP = 64
"""Pre-activations are searched in groups of this size."""
CPU_ROWS, OTHER_ENTRIES = 256, 1 << 28
"""Pre-activations computed at a time: rows on a CPU, where they then stay in its cache (more for wide inputs, where the
product outweighs that), entries elsewhere. [n, d_sae] never exists whole.
"""
BMM_ROWS = 256
"""Rows whose latents' directions are gathered at a time: w_dec[indices] would be [n, k, d_in] at once."""


class BufferPool:
    """Memory that every step uses again: asking the system for hundreds of megabytes anew costs a twentieth of a
    step.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def empty(self, name: str, shape: tuple[int, int], like: Tensor) -> Tensor:
        """An uninitialised tensor with the type and device of `like`; the same memory at every call with this name and
        shape.
        """
        buffer = self._buffers.get(name)
        if buffer is None or buffer.shape != shape or buffer.dtype != like.dtype or buffer.device != like.device:
            buffer = self._buffers[name] = torch.empty(shape, dtype=like.dtype, device=like.device)
        return buffer


class LatentCSR:
    """The active latents of n rows as a sparse [latents, n] matrix in CSR order, for the transposed products of the
    backward pass.
    """

    def __init__(self, indices: Int[Tensor, "n k"], latents: int) -> None:
        flat = indices.flatten()
        self.order = torch.argsort(flat, stable=True)
        self.row_pointers = torch.zeros(latents + 1, dtype=torch.long, device=flat.device)
        self.row_pointers[1:] = torch.bincount(flat, minlength=latents).cumsum(0)
        self.columns = self.order // indices.shape[1]
        self.shape = (latents, indices.shape[0])

    def weighted_sums(
        self, values: Float[Tensor, "n k"], rows: Float[Tensor, "n d_in"], pool: BufferPool, name: str
    ) -> Float[Tensor, "latents d_in"]:
        """For every latent the sum of the rows where it is active, weighted by its values there. On a CPU the result
        is the buffer `name` of `pool`.
        """
        weights = values.flatten()[self.order]
        pointers = self.row_pointers
        if rows.device.type != "cpu":
            matrix = torch.sparse_csr_tensor(pointers, self.columns, weights, self.shape, check_invariants=False)
            return matrix @ rows
        sums = pool.empty(name, (self.shape[0], rows.shape[1]), rows)
        # Chunk by chunk with embedding_bag: a quarter of the time of torch's sparse product.
        edges = [*range(0, len(sums), LATENTS_PER_CHUNK), len(sums)]
        offsets = pointers[edges].tolist()
        for (start, stop), (first, last) in zip(pairwise(edges), pairwise(offsets), strict=True):
            sums[start:stop] = functional.embedding_bag(
                self.columns[first:last],
                rows,
                pointers[start : stop + 1] - first,
                mode="sum",
                per_sample_weights=weights[first:last],
                include_last_offset=True,
            )
        return sums


def encode_topk(
    x: Float[Tensor, "n d_in"],
    w_enc: Float[Tensor, "d_in d_sae"],
    b_enc: Float[Tensor, " d_sae"],
    k: int,
    bf16: bool = False,
    pool: BufferPool | None = None,
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """(values, indices) of the k largest entries of x W + b in each row, in no order; not differentiable.

    bf16: multiply factors that are rounded to bfloat16.
    """
    weights = w_enc
    if bf16:
        weights, x = w_enc.bfloat16(), x.bfloat16()
        if x.device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            # Without bfloat16 instructions the product takes 5 to 70 times as long as that of the same factors in fp32.
            weights, x = weights.float(), x.float()
    if x.device.type == "cpu":
        rows = max(CPU_ROWS, x.shape[1] // 2)
    else:
        rows = max(1, OTHER_ENTRIES // w_enc.shape[1])
    product = (pool or BufferPool()).empty("pre", (min(rows, len(x)), w_enc.shape[1]), weights)
    values, indices = [], []
    for part in x.split(rows):
        pre = torch.mm(part, weights, out=product[: len(part)]).float().add_(b_enc)
        part_values, part_indices = _largest(pre, k)
        values.append(part_values)
        indices.append(part_indices)
    return torch.cat(values), torch.cat(indices)


def _largest(pre: Float[Tensor, "n d_sae"], k: int) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """`pre.topk(k)`: the k largest lie in the k groups with the largest maxima, so on a CPU only those are searched."""
    n, latents = pre.shape
    if pre.device.type != "cpu" or latents % TOPK_GROUP or latents < 4 * k * TOPK_GROUP:
        values, indices = pre.topk(k, dim=-1, sorted=False)
        return values, indices
    count = latents // TOPK_GROUP
    groups = pre.view(n, count, TOPK_GROUP).amax(-1).topk(k, dim=-1, sorted=False).indices
    group_rows = groups + torch.arange(n)[:, None] * count
    candidates = functional.embedding(group_rows, pre.view(-1, TOPK_GROUP)).flatten(1)  # [n, k TOPK_GROUP]
    values, places = candidates.topk(k, dim=-1, sorted=False)
    return values, groups.gather(1, places // TOPK_GROUP) * TOPK_GROUP + places % TOPK_GROUP


def _value_gradient(
    grad: Float[Tensor, "n d_in"], w_dec: Float[Tensor, "d_sae d_in"], indices: Int[Tensor, "n k"]
) -> Float[Tensor, "n k"]:
    """Gradient of each active value: the product of its row's gradient and its latent's direction."""
    n, k = indices.shape
    if grad.device.type == "cpu":
        pointers = torch.arange(0, n * k + 1, k)
        zeros, shape = grad.new_zeros(n * k), (n, len(w_dec))
        pattern = torch.sparse_csr_tensor(pointers, indices.flatten(), zeros, shape, check_invariants=False)
        return torch.sparse.sampled_addmm(pattern, grad, w_dec.T, beta=0.0).values().view(n, k)
    parts = zip(indices.split(BMM_ROWS), grad.split(BMM_ROWS), strict=True)
    return torch.cat([torch.bmm(w_dec[i], g.unsqueeze(-1)).squeeze(-1) for i, g in parts])


class _Reconstruct(torch.autograd.Function):
    """(reconstruction, values, indices) of x as it enters the encoder. W_enc [d_in, d_sae], W_dec [d_sae, d_in].

    centred: b_dec was subtracted from x, so it gets a gradient from there too.
    """

    @staticmethod
    def forward(ctx, x, w_enc, b_enc, w_dec, b_dec, centred: bool, k: int, bf16: bool, pool):  # pyright: ignore
        values, indices = encode_topk(x, w_enc, b_enc, k, bf16, pool)
        values = values.relu()
        ctx.centred, ctx.pool = centred, pool or BufferPool()
        ctx.save_for_backward(x, w_enc, w_dec, values, indices)
        ctx.mark_non_differentiable(values, indices)
        out = functional.embedding_bag(indices, w_dec, mode="sum", per_sample_weights=values).add_(b_dec)
        return out, values, indices

    @staticmethod
    def backward(ctx, grad, *_):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, w_enc, w_dec, values, indices = ctx.saved_tensors
        latents = w_dec.shape[0]
        grad = grad.contiguous()
        by_value = _value_gradient(grad, w_dec, indices) * (values > 0)
        active = LatentCSR(indices, latents)
        g_enc = active.weighted_sums(by_value, x, ctx.pool, "enc")
        g_dec = active.weighted_sums(values, grad, ctx.pool, "dec")
        g_b_enc = torch.zeros(latents, dtype=grad.dtype, device=grad.device)
        g_b_enc.index_add_(0, indices.flatten(), by_value.flatten())
        g_b_dec = grad.sum(0)
        if ctx.centred:  # sum_n W_enc by_latent_n, where the sum over n is the gradient of b_enc
            g_b_dec -= w_enc @ g_b_enc
        # Views: autograd takes them as they are, where it would copy what is also held elsewhere.
        return None, g_enc.T, g_b_enc, g_dec[:], g_b_dec, None, None, None, None


class SparseTopKTrainingSAE(TopKTrainingSAE):
    """Needs `rescale_acts_by_decoder_norm=False`: the decoder is kept at unit norm instead."""

    low_precision = False
    """The encoder's product in bfloat16 while training."""
    unit_decoder = True
    """Each latent's direction is kept at norm 1 in training. An SAE whose decoder is not of unit norm would be another
    one after its first step.
    """
    buffer_pool: BufferPool | None = None
    """While training: its gradients lie there, so no second backward pass may come before the optimiser's step."""

    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        dead = step_input.dead_neuron_mask
        if dead is not None and bool(dead.any()):
            return super().training_forward_pass(step_input)  # the auxiliary loss needs every pre-activation
        x = step_input.sae_in
        out, values, indices = reconstruct_with_gradient(self, x)
        loss = functional.mse_loss(out, x, reduction="sum") / len(x)
        places = torch.stack([torch.arange(len(x), device=x.device).repeat_interleave(self.cfg.k), indices.flatten()])
        acts = torch.sparse_coo_tensor(places, values.flatten(), (len(x), self.cfg.d_sae), check_invariants=False)
        return TrainStepOutput(
            sae_in=x, sae_out=out, feature_acts=acts, hidden_pre=acts, loss=loss, losses={"mse_loss": loss}
        )


def new_sae(width: int, settings: SaeSettings, hookpoint: str, seed: int) -> SparseTopKTrainingSAE:
    """An untrained SAE, a function of the seed; raises `Usage` for an impossible k."""
    if not 0 < settings.k <= settings.latents:
        raise Usage(
            f"k = {settings.k} active latents of {settings.latents} cannot be", "set sae.k between 1 and sae.latents"
        )
    layer, mlp = layer_of(hookpoint), hookpoint.endswith(".mlp")
    config = TopKTrainingSAEConfig(
        d_in=width,
        d_sae=settings.latents,
        k=settings.k,
        rescale_acts_by_decoder_norm=False,
        decoder_init_norm=1.0,
        metadata=SAEMetadata(
            hook_name=f"blocks.{layer}.hook_{'mlp_out' if mlp else 'resid_post'}",
            hf_hook_name=f"model.layers.{layer}{'.mlp' if mlp else ''}",
        ),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SparseTopKTrainingSAE(config)


def set_memory_layout(sae: SparseTopKTrainingSAE, *, training: bool) -> None:
    """Lay W_enc [d_in, d_sae] out latent by latent for training, row by row otherwise; its values stay.

    Its gradient comes latent by latent, so in training no step has to transpose it in memory.
    """
    weight = sae.W_enc.data
    sae.W_enc.data = weight.T.contiguous().T if training else weight.contiguous()
    sae.buffer_pool = BufferPool() if training else None


def has_unit_decoder(sae: TopKTrainingSAE) -> bool:
    """Whether every direction has norm 1, bfloat16 rounding allowed."""
    return bool(((sae.W_dec.detach().norm(dim=-1) - 1).abs() < 0.01).all())


def reconstruct_with_gradient(
    sae: SparseTopKTrainingSAE, x: Float[Tensor, "n d_in"]
) -> tuple[Float[Tensor, "n d_in"], Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """(reconstruction, values and indices of the active latents); differentiable by the SAE's parameters with sparse
    work only.
    """
    with torch.no_grad():
        encoder_input = sae.process_sae_in(x)
    parameters = sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec
    options = sae.cfg.apply_b_dec_to_input, sae.cfg.k, sae.low_precision, sae.buffer_pool
    return _Reconstruct.apply(encoder_input, *parameters, *options)  # pyright: ignore[reportReturnType]


@torch.no_grad()
def encode(
    sae: SparseTopKTrainingSAE, state: Float[Tensor, "*n d_in"]
) -> tuple[Float[Tensor, "*n k"], Int[Tensor, "*n k"]]:
    """The k active latents of each state: (values >= 0, indices)."""
    flat = state.reshape(-1, state.shape[-1]).float()
    values, indices = encode_topk(sae.process_sae_in(flat), sae.W_enc, sae.b_enc, sae.cfg.k)
    return values.relu().view(*state.shape[:-1], -1), indices.view(*state.shape[:-1], -1)


@torch.no_grad()
def reconstruct(sae: SparseTopKTrainingSAE, state: Float[Tensor, "*n d_in"]) -> Float[Tensor, "*n d_in"]:
    """Each state as the SAE decodes it from its k active latents, in the type of `state`."""
    values, indices = encode(sae, state.reshape(-1, state.shape[-1]))
    out = functional.embedding_bag(indices, sae.W_dec, mode="sum", per_sample_weights=values) + sae.b_dec
    return out.view(state.shape).to(state.dtype)
