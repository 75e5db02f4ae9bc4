"""Stage II with the network split at the hookpoint, beside the plain algorithm (hook, two full forward passes), on tiny-r1."""

import time

import torch
from peft import PeftModel
from torch.nn import functional

from resa_hub.engine.kl import chunked_kl
from resa_hub.engine.lora import new_lora
from resa_hub.engine.models import load_base
from resa_hub.engine.split import final_state, head, prefix, spliced, suffix
from resa_hub.recipe import LoraSettings
from resa_hub.refs import Repo
from resa_hub.sources import locate

ROWS, POSITIONS, BATCHES, EPOCHS = 32, 64, 8, 2


def damage(state: torch.Tensor) -> torch.Tensor:
    """Stands for the SAE: what it costs is the same on both sides."""
    return state * 0.9


def tune(layer: int, split: bool) -> float:
    files = locate(Repo("resa-hub/tiny-r1"))
    teacher, base = load_base(files), load_base(files)
    student: PeftModel = new_lora(base, LoraSettings(dropout=0.0), range(layer + 1, 4), seed=0)
    inner = student.get_base_model()
    data = torch.randint(7, 20, (BATCHES, ROWS, POSITIONS), generator=torch.Generator().manual_seed(0))
    parameters = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    weight, cache = torch.ones(ROWS, POSITIONS) / ROWS, []
    began = time.perf_counter()
    for epoch in range(EPOCHS):
        for number, ids in enumerate(data):
            if split:
                if epoch == 0:
                    with torch.no_grad():
                        state = prefix(teacher, ids, f"layers.{layer}")
                        cache.append((damage(state), suffix(teacher, ids, state, layer)))
                start, target = cache[number]
                loss = chunked_kl(suffix(inner, ids, start, layer), target, weight, head(inner), head(teacher))  # pyright: ignore[reportArgumentType]
            else:
                with torch.no_grad():
                    target = teacher(ids, use_cache=False).logits.log_softmax(-1)
                with spliced(inner, f"layers.{layer}", damage):  # pyright: ignore[reportArgumentType]
                    logits = head(inner)(final_state(inner, ids))  # pyright: ignore[reportArgumentType]
                loss = functional.kl_div(logits.log_softmax(-1), target, reduction="batchmean", log_target=True)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return time.perf_counter() - began


def main() -> None:
    for layer in (0, 1, 2):
        tune(layer, True)
        plain, ours = (min(tune(layer, split) for _ in range(3)) for split in (False, True))
        print(f"  hookpoint layers.{layer} of 4, {EPOCHS} epochs: {plain / ours:.2f} x the plain algorithm")
