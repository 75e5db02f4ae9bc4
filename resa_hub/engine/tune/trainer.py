"""The one training loop of all methods: LoRA of a student by KL to a teacher's final states."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from peft import PeftModel
from torch import Tensor

from ...errors import NoEffect, RunFailed
from ...progress import Progress
from ...recipe import Training
from ..kl import Head, chunked_kl
from ..text import Batch

NEGLIGIBLE = 1e-6
"""Gradient norm below which a step is left out: Adam would blow rounding noise up to full steps."""


class Example(NamedTuple):
    batch: Batch
    teacher: Tensor
    """The teacher's final states [rows, positions, width]."""
    weight: Tensor
    """[rows, positions]: the loss is sum(weight * KL)."""
    start: Tensor | None = None
    """The student's state at the hookpoint, where the prefix is shared."""


def fit(
    student: PeftModel,
    forward: Callable[[Example], Tensor],
    heads: tuple[Head, Head],
    examples: list[Example],
    settings: Training,
    seed: int,
    progress: Progress,
) -> list[float]:
    """Train in place; returns the mean KL per position, in nats, of every step.

    forward: the student's final states of an example. heads: of student and teacher. Raises `NoEffect` when teacher and student never differ.
    """
    parameters = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate)
    total, step, skipped, losses = settings.epochs * len(examples), 0, 0, []
    device = next(student.parameters()).device
    student.train()
    with torch.random.fork_rng(), progress.stage("train adapter", total, "steps") as advance:
        torch.manual_seed(seed)
        for _ in range(settings.epochs):
            for example in examples:
                weight = example.weight.to(device)
                loss = chunked_kl(forward(example), example.teacher.to(device), weight, *heads, settings.kl)
                optimizer.zero_grad()
                loss.backward()
                norm = float(torch.nn.utils.clip_grad_norm_(parameters, settings.gradient_clip))
                if not math.isfinite(norm):
                    raise RunFailed(f"the gradient of step {step} is not finite", "lower it with --set training.learning_rate=...")
                for group in optimizer.param_groups:
                    group["lr"] = settings.learning_rate * (1 if settings.schedule == "constant" else 0.1 + 0.45 * (1 + math.cos(math.pi * step / total)))
                if norm < NEGLIGIBLE:
                    skipped += 1
                else:
                    optimizer.step()
                losses.append(float(loss.detach()) / float(weight.sum()))
                step += 1
                advance(1)
    if skipped == total:
        raise NoEffect("teacher and student never differ: there is nothing to learn", "source and target may be the same model; choose another source or layer")
    student.eval()
    return losses


def ends(losses: list[float]) -> dict[str, float]:
    """Mean KL of the first and the last eighth of the steps, nats a position."""
    part = max(1, len(losses) // 8)
    return {"kl_first": sum(losses[:part]) / part, "kl_last": sum(losses[-part:]) / part}
