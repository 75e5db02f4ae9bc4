"""One decoder layer of Qwen2-1.5B's shape with the default LoRA on it, as PEFT runs it and as `lora_forward` does: CPU
seconds of one thread, forward and backward, interleaved; and the bytes that wait for the backward pass.
"""

import copy
import time
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from resa_hub.config.recipe import LoraSettings
from resa_hub.engine.model.lora import new_lora
from resa_hub.engine.model.lora_forward import use_fused_lora
from resa_hub.engine.model.partial_forward import run_from_layer

TOKENS, WIDTH, INNER, REPEATS = 512, 1_536, 8_960, 5


def student(dtype: torch.dtype, dropout: float) -> PeftModel:
    """Two layers, of which the first is handed on."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": 2, "vocab_size": 64}
    config = Qwen2Config(**sizes, num_attention_heads=12, num_key_value_heads=2)
    base = Qwen2ForCausalLM(config).to(dtype)  # pyright: ignore[reportArgumentType]
    return new_lora(base, LoraSettings(dropout=dropout), [1], 0).train()


def step(model: PeftModel) -> tuple[float, float, int]:
    """(CPU seconds forward, backward, bytes kept)."""
    ids, state = torch.zeros(1, TOKENS, dtype=torch.long), torch.randn(1, TOKENS, WIDTH).to(model.dtype)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    base: Any = model.get_base_model()
    began = time.process_time()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = run_from_layer(base, ids, state.requires_grad_(True), 0)
    middle = time.process_time()
    out.float().sum().backward()
    return middle - began, time.process_time() - middle, sum(size for at, size in kept.items() if at not in own)


def main() -> None:
    torch.set_num_threads(1)
    print(f"  {TOKENS} tokens, width {WIDTH:,}, rank 32 on all modules; CPU seconds, the best of {REPEATS}", flush=True)
    for dtype in (torch.bfloat16, torch.float32):
        for dropout in (0.05, 0.0):
            plain = student(dtype, dropout)
            fused = use_fused_lora(copy.deepcopy(plain))
            runs: dict[str, list[tuple[float, float, int]]] = {"PEFT": [], "fused": []}
            for _ in range(REPEATS):
                runs["PEFT"].append(step(plain))
                runs["fused"].append(step(fused))
            best = {name: [min(column) for column in zip(*rows, strict=True)] for name, rows in runs.items()}
            (forward, backward, kept), (ours, ours_back, ours_kept) = best["PEFT"], best["fused"]
            print(
                f"  {str(dtype).removeprefix('torch.')}, dropout {dropout:g}: forward {forward / ours:.2f} x PEFT "
                f"({ours:.2f} s), backward {backward / ours_back:.2f} x ({ours_back:.2f} s), both "
                f"{(forward + backward) / (ours + ours_back):.2f} x; kept {ours_kept / 1e6:.0f} MB against "
                f"{kept / 1e6:.0f}",
                flush=True,
            )
