"""SAELens' TopK training SAE with a sparse decoder and sparse gradients: only the encoder's forward stays a dense product.

After 20 Adam steps the parameters equal SAELens' own to 2e-7 (see tests); the trainer, checkpoints and file format are SAELens'.
"""

import warnings

import torch
from jaxtyping import Float, Int
from sae_lens import TopKTrainingSAE
from sae_lens.saes.sae import TrainStepInput, TrainStepOutput
from torch import Tensor
from torch.nn import functional

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")


class ByLatent:
    """The places of the active latents sorted by latent: the transposed products of the backward pass, as CSR [latents, n]."""

    def __init__(self, indices: Int[Tensor, "n k"], latents: int) -> None:
        flat = indices.flatten()
        self.order = torch.argsort(flat, stable=True)
        self.rows = torch.zeros(latents + 1, dtype=torch.long, device=flat.device)
        self.rows[1:] = torch.bincount(flat, minlength=latents).cumsum(0)
        self.columns = self.order // indices.shape[1]
        self.shape = (latents, indices.shape[0])

    def matrix(self, values: Float[Tensor, "n k"]) -> Tensor:
        return torch.sparse_csr_tensor(self.rows, self.columns, values.flatten()[self.order], self.shape, check_invariants=False)


class _Reconstruct(torch.autograd.Function):
    """(input - b_dec) -> decoded top-k latents, without bias. W_enc [d_in, d_sae], W_dec [d_sae, d_in]."""

    @staticmethod
    def forward(ctx, x, w_enc, b_enc, w_dec, k: int, low: bool):  # pyright: ignore[reportIncompatibleMethodOverride]
        pre = (x.bfloat16() @ w_enc.bfloat16()).float().add_(b_enc) if low else torch.addmm(b_enc, x, w_enc)
        values, indices = pre.topk(k, dim=-1, sorted=False)
        values = values.relu()
        ctx.save_for_backward(x, w_enc, w_dec, values, indices)
        ctx.mark_non_differentiable(values, indices)
        return functional.embedding_bag(indices, w_dec, mode="sum", per_sample_weights=values), values, indices

    @staticmethod
    def backward(ctx, grad, *_):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, w_enc, w_dec, values, indices = ctx.saved_tensors
        latents = w_dec.shape[0]
        # In parts: w_dec[indices] would be [n, k, d_in] at once.
        parts = zip(indices.split(256), grad.split(256), strict=True)
        by_value = torch.cat([torch.bmm(w_dec[i], g.unsqueeze(-1)).squeeze(-1) for i, g in parts]) * (values > 0)
        places = ByLatent(indices, latents)
        g_enc = (places.matrix(by_value) @ x).T
        g_bias = torch.zeros(latents, dtype=grad.dtype, device=grad.device).index_add_(0, indices.flatten(), by_value.flatten())
        g_x = functional.embedding_bag(indices, w_enc.T.contiguous(), mode="sum", per_sample_weights=by_value) if ctx.needs_input_grad[0] else None
        return g_x, g_enc, g_bias, places.matrix(values) @ grad, None, None


class SparseTopKTrainingSAE(TopKTrainingSAE):
    """Needs `rescale_acts_by_decoder_norm=False`: the decoder is kept at unit norm instead."""

    low_precision = False
    """The encoder's product in bfloat16 while training."""

    def training_forward_pass(self, step_input: TrainStepInput) -> TrainStepOutput:
        dead = step_input.dead_neuron_mask
        if dead is not None and bool(dead.any()):
            return super().training_forward_pass(step_input)  # the auxiliary loss needs every pre-activation
        x = step_input.sae_in
        out, values, indices = reconstructed(self, x)
        loss = (out - x).pow(2).sum(-1).mean()
        places = torch.stack([torch.arange(len(x), device=x.device).repeat_interleave(self.cfg.k), indices.flatten()])
        acts = torch.sparse_coo_tensor(places, values.flatten(), (len(x), self.cfg.d_sae), check_invariants=False)
        return TrainStepOutput(sae_in=x, sae_out=out, feature_acts=acts, hidden_pre=acts, loss=loss, losses={"mse_loss": loss})


def reconstructed(sae: SparseTopKTrainingSAE, x: Float[Tensor, "n d_in"]) -> tuple[Float[Tensor, "n d_in"], Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """(reconstruction, values and indices of the active latents); differentiable by the SAE's parameters with sparse work only."""
    out, values, indices = _Reconstruct.apply(sae.process_sae_in(x), sae.W_enc, sae.b_enc, sae.W_dec, sae.cfg.k, sae.low_precision)  # pyright: ignore
    return out + sae.b_dec, values, indices
