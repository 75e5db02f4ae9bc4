"""KL between two next-token distributions from their final states, in chunks of positions: no [tokens, vocabulary]
tensor ever exists.
"""

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Head = Callable[[Tensor], Tensor]
Direction = Literal["teacher-student", "student-teacher"]
CHUNK = 192
"""Positions at a time: 192 x 151,936 float32 logits are 117 MB, and four such tensors live at once."""
BLOCK = 1 << 17
"""Entries of a chunk whose softmaxes are computed at a time on a CPU: they pass through its cache once, not a dozen
times through memory.
"""


def kl(
    teacher: Float[Tensor, "n vocab"], student: Float[Tensor, "n vocab"], direction: Direction
) -> Float[Tensor, " n"]:
    """KL(teacher || student), or the other way round, from logits, in nats; without gradient."""
    with torch.no_grad():
        return torch.cat([_block_kl(t, s, direction)[0] for t, s in _blocks(teacher, student)])


def kl_and_gradient(
    teacher: Float[Tensor, "n vocab"],
    student: Float[Tensor, "n vocab"],
    weight: Float[Tensor, " n"],
    direction: Direction,
) -> tuple[Float[Tensor, " n"], Float[Tensor, "n vocab"]]:
    """(KL of every position, gradient of sum_i weight_i KL_i by the student's logits).

    The gradient is weight (p_student - p_teacher) for KL(teacher || student), and weight p_student (log p_student - log
    p_teacher - KL) the other way round. The products stand in the order in which autograd would take them, so the bits
    are those of the plain algorithm.
    """
    values, gradient = torch.empty_like(weight), torch.empty_like(student)
    with torch.no_grad():
        for t, s, weights, value, out in _blocks(teacher, student, weight.unsqueeze(-1), values, gradient):
            value[:], log_student, other = _block_kl(t, s, direction)
            if direction == "teacher-student":
                by_log = other.mul_(weights).neg_()
            else:
                probability = log_student.exp()
                by_log = other.mul_(weights).mul_(probability).add_(probability.mul_(weights))
            torch.ops.aten._log_softmax_backward_data.out(by_log, log_student, -1, log_student.dtype, out=out)
    return values, gradient


def _blocks(logits: Float[Tensor, "n vocab"], *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Views of these tensors, some rows at a time."""
    rows = max(1, BLOCK // logits.shape[1] if logits.device.type == "cpu" else len(logits))
    return zip(*(tensor.split(rows) for tensor in (logits, *others)), strict=True)


def _block_kl(teacher: Tensor, student: Tensor, direction: Direction) -> tuple[Tensor, Tensor, Tensor]:
    """(KL [n], log p_student [n, vocab], and p_teacher or log p_student - log p_teacher, whichever the gradient
    needs).
    """
    log_teacher, log_student = torch.log_softmax(teacher, -1), torch.log_softmax(student, -1)
    if direction == "teacher-student":
        probability = log_teacher.exp()
        return log_teacher.sub_(log_student).mul_(probability).sum(-1), log_student, probability
    difference = torch.sub(log_student, log_teacher, out=log_teacher)
    return log_student.exp().mul_(difference).sum(-1), log_student, difference


Measure = Callable[[Tensor, slice, Tensor], tuple[Tensor, Tensor]]
"""(logits of some of the student's positions [n, vocab], the slice they are, their weights [n]) -> (the loss of each
[n], gradient of the weighted sum by the logits).
"""


class _Chunked(torch.autograd.Function):
    """sum_i weight_i loss_i. The head is frozen, so the gradient by the student's state is all that is needed: it is
    computed chunk by chunk in the forward pass.
    """

    @staticmethod
    def forward(ctx, student, weight, head: Head, measure: Measure):  # pyright: ignore
        gradient = torch.empty_like(student)
        total = torch.zeros((), dtype=torch.float32, device=student.device)
        for start in range(0, len(student), CHUNK):
            part = slice(start, start + CHUNK)
            with torch.enable_grad():
                state = student[part].detach().requires_grad_(True)
                logits = head(state)
            losses, by_logits = measure(logits.detach(), part, weight[part])
            (gradient[part],) = torch.autograd.grad(logits, state, by_logits)
            total += (losses * weight[part]).sum()
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx, grad):  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,) = ctx.saved_tensors
        return gradient * grad, None, None, None


def chunked(
    student: Float[Tensor, "n width"], weight: Float[Tensor, " n"], head: Head, measure: Measure
) -> Float[Tensor, ""]:
    """sum_i weight_i loss_i over the student's last hidden states; differentiable by `student` only."""
    return _Chunked.apply(student, weight, head, measure)  # pyright: ignore[reportReturnType]


def chunked_kl(
    student: Float[Tensor, "*n width"],
    teacher: Float[Tensor, "*n width"],
    weight: Float[Tensor, "*n"],
    student_head: Head,
    teacher_head: Head,
    direction: Direction = "teacher-student",
) -> Float[Tensor, ""]:
    """sum_i weight_i KL_i over positions of weight > 0; differentiable by `student` only."""
    weighted = weight.flatten() > 0
    student_states, teacher_states = (states.flatten(0, -2)[weighted] for states in (student, teacher))

    def measure(logits: Tensor, part: slice, weights: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            target = teacher_head(teacher_states[part])
        return kl_and_gradient(target, logits, weights, direction)

    return chunked(student_states, weight.flatten()[weighted], student_head, measure)
