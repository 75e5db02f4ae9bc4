"""Guided SFT as the reference has it, written simply: a hook, two whole forward passes a step, all logits at once."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from resa_hub.config.recipe import Training
from resa_hub.engine.model.partial_forward import hook_module


def plain_tuning(
    teacher: PreTrainedModel,
    student: PeftModel,
    hookpoint: str,
    damage: Callable[[Tensor], Tensor],
    chunks: Sequence[Tensor],
    settings: Training,
) -> None:
    """Train the student's LoRA in place. damage: what stands in for the output at the hookpoint, without gradient.
    chunks: [rows, positions] token ids.
    """
    trained = [p for p in student.parameters() if p.requires_grad]
    optimizer, steps = torch.optim.AdamW(trained, lr=settings.learning_rate), settings.epochs * len(chunks)

    def hook(module: Any, args: Any, output: Tensor) -> Tensor:
        with torch.no_grad():
            return damage(output)

    handle = hook_module(student.get_base_model(), hookpoint).register_forward_hook(hook)
    student.train()
    for step in range(steps):
        ids = chunks[step % len(chunks)]
        with torch.no_grad():
            wanted = teacher(input_ids=ids, use_cache=False).logits.float().log_softmax(-1)
        got = student(input_ids=ids, use_cache=False).logits.float().log_softmax(-1)
        pair = (got, wanted) if settings.kl == "teacher-student" else (wanted, got)  # kl_div(a, b) is KL(b || a)
        loss = functional.kl_div(*pair, log_target=True, reduction="sum") / (
            len(ids) if settings.reduction == "sum" else ids.numel()
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, settings.gradient_clip)
        if settings.schedule == "cosine":
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * (0.1 + 0.9 * (1 + math.cos(math.pi * step / steps)) / 2)
        optimizer.step()
    handle.remove()
