"""The one training loop of all methods: the LoRA of a student on a loss of its examples. A run that was killed goes on
from its last state.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor

from ...config.recipe import Training
from ...core.errors import NoEffect, RunFailed
from ...core.progress import Progress
from ..cost_tracker import CostTracker
from ..distributed import ProcessGroup
from ..model.kl import Head, chunked_kl
from ..model.lora_forward import use_fused_lora
from .teacher_states import TrainingExample

MIN_GRAD_NORM = 1e-6
"""Gradient norm below which a step is left out: Adam would blow rounding noise up to full steps."""
LOWEST_RATE = 0.1
"""Where the cosine ends, as a share of the learning rate. The paper says "cosine with minimum learning rate" and not
which.
"""
STATE = "adapter"
"""Name of the stage in the ledger, and of the state of an interrupted run."""
Loss = Callable[[TrainingExample], Tensor]
"""The loss of one example, summed over its positions by their weight."""


def teacher_loss(forward: Callable[[TrainingExample], Tensor], heads: tuple[Head, Head], settings: Training) -> Loss:
    """KL between student and teacher. forward: the student's last hidden states [rows, positions, width] of an example.
    heads: of student and teacher.
    """

    def loss(example: TrainingExample) -> Tensor:
        student = forward(example)
        assert example.teacher is not None
        teacher, weight = example.teacher.to(student.device), example.weight.to(student.device)
        return chunked_kl(student, teacher, weight, *heads, settings.kl)

    return loss


def fit(
    student: PeftModel,
    loss_of: Loss,
    examples: Sequence[TrainingExample],
    settings: Training,
    seed: int,
    progress: Progress,
    ledger: CostTracker,
    *,
    operations: float = 0.0,
    state: str = STATE,
) -> list[float]:
    """Train in place; returns the mean loss per position, in nats, of every step.

    ledger: where states are kept and found again, and costs counted. operations: estimate for one token of a step.
    state: the name under which the state is kept.
    Raises `NoEffect` when teacher and student never differ, `RunFailed` at a gradient that is not finite.
    """
    run = _TrainingRun(student, settings, settings.epochs * len(examples), ledger.processes)
    use_fused_lora(student).train()
    with torch.random.fork_rng(), ledger.stage(STATE):
        torch.manual_seed(seed + ledger.processes.rank)  # dropout: no two processes share a mask
        if run.restore(ledger.load(state)):
            progress.say(f"  train adapter: continuing at step {run.step} of {run.total}")
        with progress.stage("train adapter", run.total - run.step, "steps") as advance:
            while run.step < run.total:
                example = examples[run.step % len(examples)]
                run.update(loss_of(example) if example.batch.tokens else run.zero_loss(), example)
                ledger.add(STATE, run.step_tokens, operations * run.step_tokens)
                if ledger.due() or run.step == run.total:
                    ledger.save(state, run.state())
                advance(1)
    if run.skipped == run.total:
        raise NoEffect(
            "teacher and student never differ: there is nothing to learn",
            "source and target may be the same model; choose another source or layer",
        )
    student.eval()
    return run.losses


class _TrainingRun:
    """Everything that a step changes: parameters, optimizer, counters."""

    def __init__(self, student: PeftModel, settings: Training, total: int, processes: ProcessGroup) -> None:
        self.settings, self.total, self.processes = settings, total, processes
        self.step = 0
        self.skipped = 0
        """Steps left out because of their vanishing gradient."""
        self.step_tokens = 0
        """Of the last step, all processes together."""
        self.losses: list[float] = []
        self.parameters = {name: p for name, p in student.named_parameters() if p.requires_grad}
        on_gpu = all(parameter.is_cuda for parameter in self.parameters.values())
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            # foreach: half the time of a loop on a processor, the same bits. fused: one kernel for all on a GPU.
            fused=on_gpu,
            foreach=not on_gpu,
        )

    def zero_loss(self) -> Tensor:
        """The loss of a process that has no row of this batch: it takes part in the sum of gradients all the same."""
        return torch.stack([p.sum() for p in self.parameters.values()]).sum() * 0

    def update(self, loss: Tensor, example: TrainingExample) -> None:
        """One step, its gradient summed over all processes."""
        self.optimizer.zero_grad()
        loss.backward()
        known = torch.tensor([float(example.weight.sum()), float(example.batch.tokens)])
        totals = torch.cat([loss.detach().float().reshape(1), known.to(loss.device)])
        self.processes.all_reduce_(totals, *(p.grad for p in self.parameters.values() if p.grad is not None))
        clipped = torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.gradient_clip)
        # The one place of a step where a GPU is waited for.
        value, weight, tokens, norm = torch.cat([totals, clipped.to(totals).reshape(1)]).tolist()
        if not (math.isfinite(norm) and math.isfinite(value)):
            raise RunFailed(
                f"loss or gradient of step {self.step} is not finite", "lower it with --set training.learning_rate=..."
            )
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.settings, self.step, self.total)
        if norm < MIN_GRAD_NORM:
            self.skipped += 1
        else:
            self.optimizer.step()
        self.losses.append(value / weight)
        self.step_tokens = int(tokens)
        self.step += 1

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "total": self.total,
            "skipped": self.skipped,
            "losses": self.losses,
            "parameters": {name: p.detach() for name, p in self.parameters.items()},
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),  # dropout
            "gpu_random": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def restore(self, state: dict[str, Any] | None) -> bool:
        """Go on from a state; False when there is none of this very training."""
        if state is None or state["total"] != self.total or state["parameters"].keys() != self.parameters.keys():
            return False
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(state["parameters"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.skipped, self.losses = state["step"], state["skipped"], state["losses"]
        if not self.processes.is_single:
            # The state holds the generator of the main process alone, so the masks of dropout after a restart are
            # others than without one.
            torch.manual_seed(self.step * self.processes.world_size + self.processes.rank)
            return True
        torch.set_rng_state(state["random"])
        if state["gpu_random"]:
            torch.cuda.set_rng_state_all(state["gpu_random"])
        return True


def learning_rate(settings: Training, step: int, total: int) -> float:
    """Learning rate of the 0-based `step`, as transformers' schedules have it; a function of the step alone, so that no
    state of it is kept.
    """
    rising = math.ceil(settings.warmup * total)
    if step < rising:
        return settings.learning_rate * step / rising
    if settings.schedule == "constant":
        return settings.learning_rate
    if settings.schedule == "linear":
        return settings.learning_rate * (total - step) / (total - rising)
    falling = (1 + math.cos(math.pi * (step - rising) / (total - rising))) / 2
    return settings.learning_rate * (LOWEST_RATE + (1 - LOWEST_RATE) * falling)


def first_and_last_loss(losses: list[float], name: str = "kl") -> dict[str, float]:
    """Mean loss of the first and the last eighth of the steps, nats a position."""
    part = max(1, len(losses) // 8)
    return {f"{name}_first": sum(losses[:part]) / part, f"{name}_last": sum(losses[-part:]) / part}
