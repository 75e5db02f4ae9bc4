"""One Adam step of a TopK SAE, k = 32: ours beside SAELens (dense and sparse activations), eai-sparsify and the
encoder's product alone.

One thread, every peer on the same batch in turn, CPU seconds (the machine may be shared), the best of the repeats. A
step is what each library does in
training: ours and sparsify's keep the decoder at unit norm, SAELens' counts what fired. `python -m bench sae`.
"""

import time
from collections.abc import Callable
from importlib.metadata import version

import torch
from sae_lens import SAETrainer, TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.config import SAETrainerConfig
from sparsify import SparseCoder, SparseCoderConfig
from torch import Tensor

from resa_hub.config.recipe import SaeSettings
from resa_hub.engine.sae.topk import new_sae
from resa_hub.engine.sae.training_loop import AdamTrainer

K = 32
SIZES = ((256, 4_096, 4_096), (256, 16_384, 4_096), (1_536, 16_384, 4_096))
"""(d_in, d_sae, tokens a step: SAELens' default)."""
REPEATS = 3
Step = Callable[[Tensor], object]


def ours(d_in: int, d_sae: int, size: int, encoder: str) -> Step:
    settings = SaeSettings(mode="scratch", latents=d_sae, k=K, learning_rate=1e-4, batch_tokens=size, encoder=encoder)  # pyright: ignore[reportArgumentType]
    sae = new_sae(d_in, settings, "layers.0", 0)
    sae.low_precision = encoder == "bfloat16"
    return AdamTrainer(sae, settings, 10**6).step


def saelens(d_in: int, d_sae: int, size: int, sparse: bool) -> Step:
    torch.manual_seed(0)
    config = TopKTrainingSAEConfig(
        d_in=d_in, d_sae=d_sae, k=K, rescale_acts_by_decoder_norm=False, use_sparse_activations=sparse
    )
    settings = SAETrainerConfig(total_training_samples=10**9, train_batch_size_samples=size, lr=1e-4, lr_end=1e-5)
    trainer = SAETrainer(settings, TopKTrainingSAE(config), iter(()))

    def step(batch: Tensor) -> None:
        trainer.step(batch)
        trainer.n_training_steps += 1

    return step


def sparsify(d_in: int, d_sae: int) -> Step:
    """As its trainer does it, with Adam."""
    torch.manual_seed(0)
    coder = SparseCoder(d_in, SparseCoderConfig(num_latents=d_sae, k=K))
    optimizer = torch.optim.Adam(coder.parameters(), lr=1e-4)

    def step(batch: Tensor) -> None:
        coder.set_decoder_norm_to_unit_norm()
        coder(batch).fvu.backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        optimizer.zero_grad()

    return step


def encoder(d_in: int, d_sae: int, dtype: torch.dtype) -> Step:
    weight = torch.randn(d_in, d_sae).to(dtype)
    return lambda batch: batch.to(dtype) @ weight


def measure(d_in: int, d_sae: int, size: int) -> dict[str, float]:
    """Tokens a CPU second by peer."""
    peers: dict[str, Step] = {
        "SAELens": saelens(d_in, d_sae, size, False),
        "SAELens, COO": saelens(d_in, d_sae, size, True),
        "sparsify": sparsify(d_in, d_sae),
        "ours, fp32": ours(d_in, d_sae, size, "float32"),
        "ours, bf16 encoder": ours(d_in, d_sae, size, "bfloat16"),
        "encoder alone, fp32": encoder(d_in, d_sae, torch.float32),
        **(
            {"encoder alone, bf16": encoder(d_in, d_sae, torch.bfloat16)}
            if torch.ops.mkldnn._is_mkldnn_bf16_supported()
            else {}
        ),
    }
    batch = torch.randn(size, d_in, generator=torch.Generator().manual_seed(1))
    best = dict.fromkeys(peers, float("inf"))
    for repeat in range(REPEATS + 1):
        for name, step in peers.items():
            began = time.process_time()
            step(batch.clone())
            if repeat:  # the first step makes the optimiser's state
                best[name] = min(best[name], time.process_time() - began)
    return {name: size / seconds for name, seconds in best.items()}


def main() -> None:
    torch.set_num_threads(1)
    print(", ".join(f"{name} {version(name)}" for name in ("torch", "sae-lens", "eai-sparsify")))
    for d_in, d_sae, size in SIZES:
        found = measure(d_in, d_sae, size)
        print(f"  {d_in} x {d_sae}, {size} tokens a step, k {K}", flush=True)
        for name, speed in found.items():
            print(
                f"    {name:20} {speed:9,.0f} tokens/s   {speed / found['SAELens']:5.2f} x SAELens   "
                f"{speed / found['sparsify']:5.2f} x sparsify",
                flush=True,
            )
