"""KL between two next-token distributions from their final states, in chunks of positions: no [tokens, vocabulary] tensor ever exists."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Head = Callable[[Tensor], Tensor]
Direction = Literal["teacher-student", "student-teacher"]
CHUNK = 192
"""Positions at a time: 192 x 151,936 float32 logits are 117 MB, and five such tensors live at once."""


class _KL(torch.autograd.Function):
    """The softmaxes are made once and the gradient is p_student - p_teacher (the other way round: p_student (log p_student - log p_teacher - KL)), times the
    weight. The products stand in the order in which autograd would take them, so the bits are those of the plain algorithm."""

    @staticmethod
    def forward(ctx, teacher, student, direction: Direction):  # pyright: ignore[reportIncompatibleMethodOverride]
        known, own = torch.log_softmax(teacher, -1), torch.log_softmax(student, -1)
        ctx.direction = direction
        if direction == "teacher-student":
            probability = known.exp()
            ctx.save_for_backward(own, probability)
            return known.sub_(own).mul_(probability).sum(-1)
        difference = torch.sub(own, known, out=known)
        ctx.save_for_backward(own, difference)
        return (own.exp().mul_(difference)).sum(-1)

    @staticmethod
    def backward(ctx, grad):  # pyright: ignore[reportIncompatibleMethodOverride]
        own, other = ctx.saved_tensors
        weight = grad.unsqueeze(-1)
        if ctx.direction == "teacher-student":
            by_log = (other * weight).neg_()
        else:
            probability = own.exp()
            by_log = (other * weight).mul_(probability).add_(probability.mul_(weight))
        return None, torch.ops.aten._log_softmax_backward_data(by_log, own, -1, own.dtype), None


def kl(teacher: Float[Tensor, "n vocab"], student: Float[Tensor, "n vocab"], direction: Direction) -> Float[Tensor, " n"]:
    """KL(teacher || student), or the other way round, from logits, in nats; differentiable by `student` only."""
    return _KL.apply(teacher, student, direction)  # pyright: ignore[reportReturnType]


PerPosition = Callable[[Tensor, slice], Tensor]
"""(the student's states of some positions, which they are) -> the loss of each."""


class _Chunked(torch.autograd.Function):
    """The head is frozen, so the gradient by the student's state is all that is needed: it is made chunk by chunk in the forward pass."""

    @staticmethod
    def forward(ctx, student, weight, per_position: PerPosition):  # pyright: ignore[reportIncompatibleMethodOverride]
        gradient = torch.empty_like(student)
        total = torch.zeros((), dtype=torch.float32, device=student.device)
        for start in range(0, len(student), CHUNK):
            part = slice(start, start + CHUNK)
            with torch.enable_grad():
                state = student[part].detach().requires_grad_(True)
                loss = (per_position(state, part) * weight[part]).sum()
            (gradient[part],) = torch.autograd.grad(loss, state)
            total += loss.detach()
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx, grad):  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,) = ctx.saved_tensors
        return gradient * grad, None, None


def chunked(student: Float[Tensor, "n width"], weight: Float[Tensor, " n"], per_position: PerPosition) -> Float[Tensor, ""]:
    """sum_i weight_i loss_i; differentiable by `student` only."""
    return _Chunked.apply(student, weight, per_position)  # pyright: ignore[reportReturnType]


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
    own, other = (x.flatten(0, -2)[kept] for x in (student, teacher))

    def per_position(state: Tensor, part: slice) -> Tensor:
        with torch.no_grad():
            target = teacher_head(other[part])
        return kl(target, student_head(state), direction)

    return chunked(own, weight.flatten()[kept], per_position)
