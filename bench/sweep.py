"""Stage I of a sweep: the SAEs of all layers from one pass of the model beside one pass a layer, CPU seconds of one
thread; the SAEs are equal bit for bit.
"""

import time

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from resa_hub.config.recipe import SaeSettings
from resa_hub.core.progress import Progress
from resa_hub.engine.model.tokens import Batch
from resa_hub.engine.sae.activations import OnePass
from resa_hub.engine.sae.train import sae_training_steps, train_interleaved, train_sae

LAYERS, WIDTH, INNER, TEXTS, LENGTH = 12, 256, 1_536, 32, 128
SETTINGS = SaeSettings(mode="scratch", latents=1_024, k=16, batch_tokens=1_024, learning_rate=1e-3)
QUIET = Progress(quiet=True)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": LAYERS, "vocab_size": 512}
    config = Qwen2Config(**sizes, num_attention_heads=4, num_key_value_heads=2)  # pyright: ignore[reportArgumentType]
    model = Qwen2ForCausalLM(config).eval().requires_grad_(False)
    ids = torch.randint(0, 512, (TEXTS, 4, LENGTH))
    texts = [Batch(one, torch.ones_like(one, dtype=torch.bool)) for one in ids]
    sources, judge = [(model, texts)], [(model, texts[:1])]
    hookpoints = [f"layers.{layer}" for layer in range(LAYERS)]
    best = {"apart": float("inf"), "one pass": float("inf")}
    made: dict[str, list[torch.Tensor]] = {}
    for _ in range(2):
        began = time.process_time()
        made["apart"] = [train_sae(sources, judge, SETTINGS, at, None, 0, QUIET).sae.W_dec for at in hookpoints]
        best["apart"] = min(best["apart"], time.process_time() - began)
        began, read = time.process_time(), OnePass(hookpoints)
        made["one pass"] = [
            t.sae.W_dec
            for t in train_interleaved(
                [sae_training_steps(sources, judge, SETTINGS, at, None, 0, QUIET, read=read) for at in hookpoints]
            )
        ]
        best["one pass"] = min(best["one pass"], time.process_time() - began)
    equal = all(torch.equal(a, b) for a, b in zip(*made.values(), strict=True))
    print(
        f"  {LAYERS} layers, width {WIDTH}, {ids.numel():,} tokens, SAEs of {SETTINGS.latents:,} latents: one "
        f"pass {best['apart'] / best['one pass']:.2f} x a "
        f"pass a layer ({best['one pass']:.1f} and {best['apart']:.1f} CPU s); equal bit for bit: {equal}"
    )
