"""KL between two next-token distributions from their final states, in chunks of positions: no [tokens, vocabulary] tensor ever exists."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Head = Callable[[Tensor], Tensor]
Direction = Literal["teacher-student", "student-teacher"]
CHUNK = 256
"""Positions at a time: 256 x 151,936 float32 logits are 156 MB."""


def kl(teacher: Float[Tensor, "n vocab"], student: Float[Tensor, "n vocab"], direction: Direction) -> Float[Tensor, " n"]:
    """KL(teacher || student), or the other way round, from logits, in nats."""
    first, second = torch.log_softmax(teacher, -1), torch.log_softmax(student, -1)
    if direction == "student-teacher":
        first, second = second, first
    return (first.exp() * (first - second)).sum(-1)


class _ChunkedKL(torch.autograd.Function):
    """The head is frozen, so the gradient by the student's state is all that is needed: it is made chunk by chunk in the forward pass."""

    @staticmethod
    def forward(ctx, student, teacher, weight, student_head: Head, teacher_head: Head, direction: Direction):  # pyright: ignore[reportIncompatibleMethodOverride]
        gradient = torch.empty_like(student)
        total = torch.zeros((), dtype=torch.float32, device=student.device)
        for start in range(0, len(student), CHUNK):
            part = slice(start, start + CHUNK)
            with torch.no_grad():
                target = teacher_head(teacher[part])
            with torch.enable_grad():
                state = student[part].detach().requires_grad_(True)
                loss = (kl(target, student_head(state), direction) * weight[part]).sum()
            (gradient[part],) = torch.autograd.grad(loss, state)
            total += loss.detach()
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx, grad):  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,) = ctx.saved_tensors
        return gradient * grad, None, None, None, None, None


def chunked_kl(
    student: Float[Tensor, "*n width"],
    teacher: Float[Tensor, "*n width"],
    weight: Float[Tensor, "*n"],
    student_head: Head,
    teacher_head: Head,
    direction: Direction = "teacher-student",
) -> Float[Tensor, ""]:
    """sum_i weight_i KL_i over positions of weight > 0; differentiable by `student` only."""
    kept = weight.flatten() > 0
    chosen = [x.flatten(0, -2)[kept] for x in (student, teacher)]
    return _ChunkedKL.apply(chosen[0], chosen[1], weight.flatten()[kept], student_head, teacher_head, direction)  # pyright: ignore[reportReturnType]
