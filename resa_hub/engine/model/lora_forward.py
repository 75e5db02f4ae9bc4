"""The forward pass of a LoRA layer in training: the same bits as PEFT's own forward and backward, in fewer and better
shaped operations.

PEFT scales the branch's output [n, out] and its gradient. A scaling by a power of two rounds nothing, so it can be
applied to the product with A [n, rank] instead, which is much narrower.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from peft import PeftModel
from peft.tuners.lora import Linear
from torch import Tensor, nn

SMALL_RANK = 8
"""Up to this rank the gradient of B is computed as autograd does it: the transposed product would be faster there too,
but with other bits.
"""


class _AddLora(torch.autograd.Function):
    """base + scaling x A^T B^T. base [..., out], x [..., in], A [rank, in], B [out, rank]; overwrites base."""

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
    """PEFT's own layer, which in training adds an ordinary adapter by `_AddLora`."""

    def forward(self, x: Tensor, *args: Any, **named: Any) -> Tensor:
        name = _fusible_adapter(self, x) if self.training and not args and not named else None
        if name is None:
            return super().forward(x, *args, **named)
        a, b = self.lora_A[name].weight, self.lora_B[name].weight
        base, dropped = self.base_layer(x), self.lora_dropout[name](x)
        return _AddLora.apply(base, dropped, a, b, self.scaling[name])  # pyright: ignore


def use_fused_lora(student: PeftModel) -> PeftModel:
    """Turn every LoRA layer of `student` into a `FusedLoraLinear`, in place; in any other state than training with one
    ordinary adapter it does what PEFT does.
    """
    for module in student.modules():
        if type(module) is Linear:
            module.__class__ = FusedLoraLinear
    return student


def _fusible_adapter(layer: Linear, x: Float[Tensor, "..."]) -> str | None:
    """The name of the layer's one active adapter if it is an ordinary one: unmerged, without bias or variant, of the
    model's own type, scaled by a power of two.
    """
    names = [name for name in layer.active_adapters if name in layer.lora_A]
    if len(names) != 1 or layer.disable_adapters or layer.merged or torch.is_autocast_enabled(x.device.type):
        return None
    (name,) = names
    base, a, b = layer.base_layer, layer.lora_A[name], layer.lora_B[name]
    if name in layer.lora_variant or not isinstance(base, nn.Linear) or a.bias is not None or b.bias is not None:
        return None
    if any(part.weight.dtype != x.dtype for part in (a, b, base)):
        return None
    power_of_two = math.frexp(layer.scaling[name])[0] == 0.5
    return name if power_of_two else None
