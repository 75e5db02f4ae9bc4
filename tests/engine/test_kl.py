"""KL in chunks of positions: the plain KL in value and gradient."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from resa_hub.engine.model.kl import CHUNK, Direction, chunked_kl, kl
from resa_hub.engine.model.partial_forward import last_hidden_state, lm_head
from tests.helpers.models import random_ids, random_model

WIDTH, VOCABULARY = 16, 50
DIRECTIONS: tuple[Direction, Direction] = ("teacher-student", "student-teacher")


def heads(cap: float | None) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for _ in range(2):
        weight = torch.randn(VOCABULARY, WIDTH, generator=generator)
        made.append(lambda x, w=weight: cap * torch.tanh(x @ w.T / cap) if cap else x @ w.T)
    return made[0], made[1]


def states(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*shape, WIDTH, generator=generator).requires_grad_(True), torch.randn(
        *shape, WIDTH, generator=generator
    )


def plain(
    student: Tensor, teacher: Tensor, weight: Tensor, own: Callable, other: Callable, direction: Direction
) -> Tensor:
    """All logits at once, through torch's own kl_div."""
    got, wanted = own(student).log_softmax(-1), other(teacher).log_softmax(-1)
    if direction == "student-teacher":
        got, wanted = wanted, got
    return (functional.kl_div(got, wanted, log_target=True, reduction="none").sum(-1) * weight).sum()


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("shape", [(2 * CHUNK + 37,), (3, 11), (5, CHUNK)])
def test_value_and_gradient_equal_the_plain_kl(shape: tuple[int, ...], cap: float | None, direction: Direction) -> None:
    (student, teacher), (own, other) = states(*shape), heads(cap)
    weight = torch.rand(shape, generator=torch.Generator().manual_seed(2)) * (torch.arange(shape[-1]) % 3 > 0)
    loss = chunked_kl(student, teacher, weight, own, other, direction)
    (gradient,) = torch.autograd.grad(3 * loss, student)
    wanted = plain(student, teacher, weight, own, other, direction)
    (wanted_gradient,) = torch.autograd.grad(3 * wanted, student)
    assert loss.item() == pytest.approx(wanted.item(), rel=2e-6)
    assert (gradient - wanted_gradient).abs().max() < 2e-6 * wanted_gradient.abs().max()
    assert not gradient[weight == 0].any() and gradient[weight > 0].abs().sum(-1).min() > 0


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_equal_distributions_have_no_kl_and_no_gradient(direction: Direction) -> None:
    (student, _), (own, _) = states(4, 9), heads(None)
    loss = chunked_kl(student, student.detach(), torch.ones(4, 9), own, own, direction)
    loss.backward()
    assert abs(loss.item()) < 1e-5 and student.grad is not None and student.grad.abs().max() < 1e-6


def test_the_direction_matters_and_is_named_as_written() -> None:
    """KL(teacher || student) by hand: teacher (1/2, 1/2), student (3/4, 1/4)."""
    teacher, student = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.75, 0.25]]).log()
    assert kl(teacher, student, "teacher-student").item() == pytest.approx(0.143841, abs=1e-6)
    assert kl(teacher, student, "student-teacher").item() == pytest.approx(0.130812, abs=1e-6)


def test_a_mask_without_any_position_gives_zero() -> None:
    (student, teacher), (own, other) = states(2, 5), heads(None)
    loss = chunked_kl(student, teacher, torch.zeros(2, 5), own, other)
    loss.backward()
    assert loss.item() == 0 and student.grad is not None and not student.grad.any()


def test_the_teacher_gets_no_gradient() -> None:
    (student, teacher), (own, other) = states(2, 5), heads(None)
    teacher.requires_grad_(True)
    chunked_kl(student, teacher, torch.ones(2, 5), own, other).backward()
    assert teacher.grad is None and student.grad is not None


def test_no_tensor_of_all_positions_by_the_vocabulary_is_made() -> None:
    (student, teacher), (own, other), seen = states(4 * CHUNK), heads(None), []

    def watched(state: Tensor) -> Tensor:
        seen.append(len(state))
        return own(state)

    chunked_kl(student, teacher, torch.ones(4 * CHUNK), watched, other).backward()
    assert max(seen) <= CHUNK and sum(seen) == 4 * CHUNK


@pytest.mark.parametrize("family", ["gemma2", "qwen2"])
def test_through_a_whole_model_the_gradients_of_weights_agree(family: str) -> None:
    model, ids = random_model(family).requires_grad_(True), random_ids(4, 16)
    teacher = last_hidden_state(random_model(family, seed=1), ids)
    own = lm_head(model)
    name, parameter = next((n, p) for n, p in model.named_parameters() if n.endswith("layers.1.mlp.up_proj.weight"))
    (chunked,) = torch.autograd.grad(
        chunked_kl(last_hidden_state(model, ids), teacher, torch.ones(4, 16), own, own), parameter
    )
    (whole,) = torch.autograd.grad(
        plain(last_hidden_state(model, ids), teacher, torch.ones(4, 16), own, own, "teacher-student"), parameter
    )
    assert (chunked - whole).abs().max() < 1e-4 * whole.abs().max(), name


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_bits_are_those_of_autograd_through_the_plain_kl(direction: Direction) -> None:
    (student, teacher), (own, other) = states(CHUNK), heads(None)
    weight = torch.full((len(student),), 0.25)
    (gradient,) = torch.autograd.grad(chunked_kl(student, teacher, weight, own, other, direction), student)
    (wanted,) = torch.autograd.grad(plain(student, teacher, weight, own, other, direction), student)
    assert (
        torch.equal(gradient, wanted)
        if torch.backends.mkl.is_available()
        else torch.allclose(gradient, wanted, atol=1e-6)
    )


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_in_bfloat16_the_gradient_is_as_near_the_truth_as_the_plain_one(direction: Direction) -> None:
    """The head runs in bf16, softmax and difference in float32: what is lost is lost in the head's own products."""
    (student, teacher), weight = states(200), torch.full((200,), 0.005)
    matrix = torch.randn(VOCABULARY, WIDTH, generator=torch.Generator().manual_seed(0))
    rounded = [x.detach().bfloat16() for x in (student, teacher, matrix)]
    exact = [x.float() for x in rounded]

    def found(function: Callable, values: list[Tensor]) -> Tensor:
        state = values[0].clone().requires_grad_(True)
        own = lambda x: (x @ values[2].T).float()  # noqa: E731
        return torch.autograd.grad(function(state, values[1], weight, own, own, direction), state)[0].float()

    truth, ours, theirs = found(plain, exact), found(chunked_kl, rounded), found(plain, rounded)
    assert (ours - theirs).norm() < 1e-5 * truth.norm()
    assert (ours - truth).norm() < 0.1 * truth.norm()
