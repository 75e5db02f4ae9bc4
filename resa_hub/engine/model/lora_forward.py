"""The branch of a LoRA in training: the same bits as PEFT's own forward and backward, in fewer and better shaped
operations.

PEFT scales the whole output and its gradient; a scaling that is a power of two can stand at the narrow place instead,
for it rounds nothing.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from peft import PeftModel
from peft.tuners.lora import Linear
from torch import Tensor, nn

SMALL_RANK = 8
"""Up to this rank the gradient of B is made as autograd makes it: transposed it would be sooner done there too, but
with other bits.
"""


class _Added(torch.autograd.Function):
    """base + scaling x A' B'. base [..., out], x [..., in], A [rank, in], B [out, rank]."""

    @staticmethod
    def forward(ctx, base, x, a, b, scaling: float):  # pyright: ignore[reportIncompatibleMethodOverride]
        flat = x.flatten(0, -2)
        narrow = (flat @ a.T).mul_(scaling)
        ctx.save_for_backward(flat, narrow, a, b)
        ctx.scaling = scaling
        ctx.mark_dirty(base)  # no linear layer needs its output to find its gradient
        base.flatten(0, -2).addmm_(narrow, b.T)
        return base

    @staticmethod
    def backward(ctx, grad):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, narrow, a, b = ctx.saved_tensors
        flat = grad.flatten(0, -2)
        by_narrow = (flat @ b).mul_(ctx.scaling)
        by_x = (by_narrow @ a).view(*grad.shape[:-1], -1) if ctx.needs_input_grad[1] else None
        by_b = flat.T @ narrow if narrow.shape[1] <= SMALL_RANK else (narrow.T @ flat).T
        return grad, by_x, by_narrow.T @ x, by_b, None


class FusedLoraLinear(Linear):
    """PEFT's own layer, which takes the short way where it may."""

    def forward(self, x: Tensor, *args: Any, **named: Any) -> Tensor:
        if not self.training or args or named or not (name := _plain(self, x)):
            return super().forward(x, *args, **named)
        a, b = self.lora_A[name].weight, self.lora_B[name].weight
        return _Added.apply(self.base_layer(x), self.lora_dropout[name](x), a, b, self.scaling[name])  # pyright: ignore


def use_fused_lora(student: PeftModel) -> PeftModel:
    """Let every LoRA of `student` that can take the short way in training take it; what PEFT does in any other state it
    goes on doing.
    """
    for module in student.modules():
        if type(module) is Linear:
            module.__class__ = FusedLoraLinear
    return student


def _plain(module: Linear, x: Float[Tensor, "..."]) -> str | None:
    """The one adapter of this module, if it is an ordinary one: unmerged, of the model's own type, scaled by a power of
    two.
    """
    names = [name for name in module.active_adapters if name in module.lora_A]
    base = module.base_layer
    if (
        len(names) != 1
        or module.disable_adapters
        or module.merged
        or names[0] in module.lora_variant
        or torch.is_autocast_enabled(x.device.type)
    ):
        return None
    (name,) = names
    a, b = module.lora_A[name], module.lora_B[name]
    same = (
        isinstance(base, nn.Linear)
        and all(part.weight.dtype == x.dtype for part in (a, b, base))
        and a.bias is None
        and b.bias is None
    )
    return name if same and math.frexp(module.scaling[name])[0] == 0.5 else None
