"""The forward pass of a LoRA layer in training: what PEFT's own forward and backward give, in fewer and better shaped
operations, with less kept in between.

PEFT scales the branch's output [n, out] and its gradient. A scaling by a power of two rounds nothing, so it can be
applied to the product with A [n, rank] instead, which is much narrower.
Of a layer in bf16 PEFT keeps a float32 copy of the input for each module, and dropout its factors in float32 too. Here
the input itself is kept, which modules share, and a byte for each factor: both are made again in the backward pass.
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
    """base + scaling x dropout(x) A^T B^T, computed in the type of A and B as PEFT does. base [..., out], x [..., in],
    A [rank, in], B [out, rank], rate: of dropout; overwrites base.
    """

    @staticmethod
    def forward(ctx, base, x, a, b, scaling: float, rate: float):  # pyright: ignore[reportIncompatibleMethodOverride]
        mask, dropped = None, x.to(a.dtype)
        if rate:
            dropped, mask = torch.native_dropout(dropped, rate, True)
        narrow = (dropped.flatten(0, -2) @ a.T).mul_(scaling)
        ctx.save_for_backward(x, mask, narrow, a, b)
        ctx.scaling, ctx.rate = scaling, rate
        ctx.mark_dirty(base)  # no linear layer needs its output to find its gradient
        flat = base.flatten(0, -2)
        if flat.dtype == b.dtype:
            flat.addmm_(narrow, b.T)
        else:
            flat.copy_(flat.to(b.dtype).addmm_(narrow, b.T))
        return base

    @staticmethod
    def backward(ctx, grad):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, mask, narrow, a, b = ctx.saved_tensors
        flat = grad.flatten(0, -2).to(b.dtype)
        by_narrow = (flat @ b).mul_(ctx.scaling)
        by_b = flat.T @ narrow if narrow.shape[1] <= SMALL_RANK else (narrow.T @ flat).T
        dropped, factors = x.to(a.dtype).flatten(0, -2), None
        if mask is not None:
            factors = mask.flatten(0, -2).to(a.dtype).mul_(1 / (1 - ctx.rate))
            dropped = dropped * factors if dropped.dtype == x.dtype else dropped.mul_(factors)
        by_a, by_x = by_narrow.T @ dropped, None
        del dropped
        if ctx.needs_input_grad[1]:
            by_x = by_narrow @ a
            by_x = by_x if factors is None else by_x.mul_(factors)
            by_x = by_x.to(x.dtype).view(x.shape)
        return grad, by_x, by_a, by_b, None, None


class FusedLoraLinear(Linear):
    """PEFT's own layer, which in training adds an ordinary adapter by `_AddLora`."""

    def forward(self, x: Tensor, *args: Any, **named: Any) -> Tensor:
        name = _fusible_adapter(self, x) if self.training and not args and not named else None
        if name is None:
            return super().forward(x, *args, **named)
        a, b = self.lora_A[name].weight, self.lora_B[name].weight
        rate = getattr(self.lora_dropout[name], "p", 0.0)
        return _AddLora.apply(self.base_layer(x), x, a, b, self.scaling[name], rate)  # pyright: ignore


def use_fused_lora(student: PeftModel) -> PeftModel:
    """Turn every LoRA layer of `student` into a `FusedLoraLinear`, in place; in any other state than training with one
    ordinary adapter it does what PEFT does.
    """
    for module in student.modules():
        if type(module) is Linear:
            module.__class__ = FusedLoraLinear
    return student


def _fusible_adapter(layer: Linear, x: Float[Tensor, "..."]) -> str | None:
    """The name of the layer's one active adapter if it is an ordinary one: unmerged, without bias or variant, in the
    model's own type or in float32, scaled by a power of two.
    """
    names = [name for name in layer.active_adapters if name in layer.lora_A]
    if len(names) != 1 or layer.disable_adapters or layer.merged or torch.is_autocast_enabled(x.device.type):
        return None
    (name,) = names
    base, a, b = layer.base_layer, layer.lora_A[name], layer.lora_B[name]
    if name in layer.lora_variant or not isinstance(base, nn.Linear) or a.bias is not None or b.bias is not None:
        return None
    if not isinstance(layer.lora_dropout[name], nn.Dropout | nn.Identity):
        return None
    dtype: Any = a.weight.dtype
    if base.weight.dtype != x.dtype or dtype != b.weight.dtype or not _is_cast_alike(layer, x, dtype):
        return None
    power_of_two = math.frexp(layer.scaling[name])[0] == 0.5
    return name if power_of_two else None


def _is_cast_alike(layer: Linear, x: Tensor, dtype: torch.dtype) -> bool:
    """Whether PEFT too would cast this input to the type of the LoRA, which is no narrower."""
    return x.dtype == dtype or (dtype == torch.float32 and getattr(layer, "cast_input_dtype_enabled", True))
