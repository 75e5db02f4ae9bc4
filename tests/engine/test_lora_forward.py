"""The fused forward of a LoRA layer: PEFT's own outputs and gradients, bit for bit, and PEFT's own forward wherever it
does not apply.
"""

import copy

import pytest
import torch
from peft import PeftModel
from peft.tuners.lora import Linear
from torch import Tensor

from resa_hub.config.recipe import LoraSettings
from resa_hub.engine.model import lora_forward
from resa_hub.engine.model.lora import new_lora
from resa_hub.engine.model.lora_forward import use_fused_lora
from tests.helpers.models import random_ids, random_model


def student(
    rank: int = 16, alpha: int = 64, dropout: float = 0.0, family: str = "qwen2", dtype: torch.dtype = torch.float32
) -> PeftModel:
    """A random model with a LoRA whose B is not zero."""
    base = random_model(family).to(dtype)  # pyright: ignore
    made = new_lora(base, LoraSettings(rank=rank, alpha=alpha, dropout=dropout), None, 0)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in made.named_parameters():
        if ".lora_B." in name:
            parameter.data.normal_(std=0.1, generator=generator)
    return made.train()


def found(model: PeftModel) -> dict[str, Tensor]:
    """Logits and every gradient; the same masks of dropout each time."""
    model.zero_grad()
    torch.manual_seed(3)
    logits = model(input_ids=random_ids(3, 17), use_cache=False).logits.float()
    (logits * torch.linspace(-1, 1, logits.shape[-1])).sum().backward()
    return {"logits": logits.detach()} | {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for every use of the fused forward."""
    uses, apply = [], lora_forward._AddLora.apply
    monkeypatch.setattr(lora_forward._AddLora, "apply", lambda *arguments: (uses.append(1), apply(*arguments))[1])
    return uses


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("family", ["qwen2", "gemma2", "phi3", "gptneox"])
@pytest.mark.parametrize(("rank", "alpha"), [(4, 16), (8, 4), (16, 64), (24, 24)])
def test_bits_are_those_of_peft(taken: list[int], rank: int, alpha: int, family: str, dropout: float) -> None:
    plain = student(rank, alpha, dropout, family)
    short = copy.deepcopy(use_fused_lora(copy.deepcopy(plain)))
    wanted, made = found(plain), found(short)
    assert taken and len(taken) == sum(isinstance(module, Linear) for module in short.modules())
    assert len(wanted) > 10 and all(grad.abs().max() > 0 for name, grad in wanted.items() if ".lora_" in name)
    assert (
        same(made, wanted)
        if torch.backends.mkl.is_available()
        else all(torch.allclose(made[name], wanted[name], atol=1e-5) for name in wanted)
    )


def test_the_gradient_is_the_slope() -> None:
    generator = torch.Generator().manual_seed(0)
    base, x, a, b = (
        torch.randn(shape, generator=generator, dtype=torch.double, requires_grad=True)
        for shape in ((2, 5, 4), (2, 5, 3), (2, 3), (4, 2))
    )
    assert torch.autograd.gradcheck(
        lambda base, x, a, b: lora_forward._AddLora.apply(base.clone(), x, a, b, 4.0, 0.0), (base, x, a, b)
    )


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("family", ["qwen2", "gemma2", "phi3", "gptneox"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("rank", "alpha"), [(4, 16), (32, 128)])
def test_a_model_in_half_precision_is_taken_too(
    taken: list[int], rank: int, alpha: int, family: str, dropout: float, dtype: torch.dtype
) -> None:
    """The LoRA is in float32, as `new_lora` makes it. What is rounded to half precision, and where, is as PEFT has it:
    the two differ by less than rounding moves either, and with MKL not at all.
    """
    plain = student(rank, alpha, dropout, family, dtype)
    wanted, made = found(plain), found(use_fused_lora(copy.deepcopy(plain)))
    exact = found(copy.deepcopy(plain).float())
    assert len(taken) == sum(isinstance(module, Linear) for module in plain.modules())
    assert {grad.dtype for name, grad in made.items() if ".lora_" in name} == {torch.float32}
    for name, value in wanted.items():
        assert (made[name] - value).norm() <= 0.2 * (value - exact[name]).norm(), name
    assert same(made, wanted) or not torch.backends.mkl.is_available()


def test_less_is_kept_than_peft_keeps(taken: list[int]) -> None:
    def kept(model: PeftModel) -> int:
        """Bytes of all tensors that wait for the backward pass, each storage once, parameters left out."""
        own = {p.untyped_storage().data_ptr() for p in model.parameters()}
        storages: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model(input_ids=random_ids(3, 17), use_cache=False).logits.float().sum()
        assert loss.requires_grad
        return sum(size for place, size in storages.items() if place not in own)

    plain = student(dropout=0.3, dtype=torch.bfloat16)
    short = use_fused_lora(copy.deepcopy(plain))
    assert kept(short) < 0.6 * kept(plain) and taken


@pytest.mark.parametrize("case", ["scaling", "narrow LoRA", "eval", "disabled", "merged", "two adapters"])
def test_where_it_does_not_apply_peft_does_as_ever(taken: list[int], case: str) -> None:
    plain = student(alpha=48) if case == "scaling" else student()
    short = use_fused_lora(copy.deepcopy(plain))
    for model in (plain, short):
        if case == "eval":
            model.eval()
        if case == "narrow LoRA":  # PEFT would round the input
            for name, parameter in model.named_parameters():
                parameter.data = parameter.data.bfloat16() if ".lora_" in name else parameter.data
        if case == "disabled":
            model.disable_adapter_layers()
        if case == "merged":
            model.merge_adapter()
        if case == "two adapters":
            model.add_adapter("other", model.peft_config["default"])
            model.base_model.set_adapter(["default", "other"])  # pyright: ignore[reportCallIssue]
    with torch.no_grad():
        wanted, made = (model(input_ids=random_ids(3, 17), use_cache=False).logits for model in (plain, short))
    assert torch.equal(wanted, made) and not taken
