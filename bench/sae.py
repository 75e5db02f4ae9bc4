"""One Adam step of a TopK SAE: ours beside SAELens' own, dense and sparse, on the same batch, one thread."""

import time

import torch
from sae_lens import SAETrainer, TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.config import SAETrainerConfig

from resa_hub.engine.sae.topk import SparseTopKTrainingSAE

SIZES = ((64, 1_024, 16, 1_024), (256, 4_096, 32, 2_048), (256, 16_384, 32, 2_048))
"""(d_in, d_sae, k, tokens a step)."""
REPEATS = 5


def trainer(kind: type[TopKTrainingSAE], d_in: int, d_sae: int, k: int, size: int, sparse: bool) -> SAETrainer:
    torch.manual_seed(0)
    config = TopKTrainingSAEConfig(d_in=d_in, d_sae=d_sae, k=k, rescale_acts_by_decoder_norm=False, use_sparse_activations=sparse)
    return SAETrainer(SAETrainerConfig(total_training_samples=10**9, train_batch_size_samples=size, lr=1e-4, lr_end=1e-5), kind(config), iter(()))


def main() -> None:
    torch.set_num_threads(1)
    for d_in, d_sae, k, size in SIZES:
        batch = torch.randn(size, d_in)
        peers = {
            "SAELens": trainer(TopKTrainingSAE, d_in, d_sae, k, size, sparse=False),
            "SAELens, sparse activations": trainer(TopKTrainingSAE, d_in, d_sae, k, size, sparse=True),
            "resa-hub": trainer(SparseTopKTrainingSAE, d_in, d_sae, k, size, sparse=False),
        }
        best = dict.fromkeys(peers, float("inf"))
        for repeat in range(REPEATS + 1):
            for name, one in peers.items():
                began = time.perf_counter()
                one.step(batch.clone())
                one.n_training_steps += 1
                if repeat:
                    best[name] = min(best[name], time.perf_counter() - began)
        for name, seconds in best.items():
            print(f"  {d_in} x {d_sae}, k {k}, {size} tokens: {name:28} {best['SAELens'] / seconds:5.2f} x SAELens ({size / seconds:,.0f} tokens/s)")
