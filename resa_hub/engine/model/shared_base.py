"""Several models on one copy of a base's weights: twins that share every tensor, and a LoRA that is merged module by
module at each product.

A model with its LoRA merged this way gives the bits of one whose weights were merged for good: the same sums are made,
only later. At 2,048 tokens a pass that costs a few hundredths of its time; while text is generated token by token
it would cost several times that of the products, so there the merged weights are kept where memory allows.
"""

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import Linear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from ...core.memory import free_memory
from .lora import load_lora

KEPT_SHARE = 0.5
"""Of the free memory that merged weights may take while text is generated."""


def twin(model: PreTrainedModel) -> PreTrainedModel:
    """Another model with the very parameters of `model`: what is put on one, a LoRA or a hook, is not on the other.
    Neither may change its weights in place.
    """
    shared: dict[int, Any] = {id(parameter): parameter for parameter in model.parameters()}
    return copy.deepcopy(model, shared)


class MergedLinear(nn.Module):
    """A linear layer with an ordinary LoRA in its weight, which is added anew at each use."""

    def __init__(self, layer: Linear, adapter: str) -> None:
        super().__init__()
        base: Any = layer.get_base_layer()
        self.weight, self.bias = base.weight, base.bias
        self.adapter = adapter
        self.kept: Tensor | None = None
        """The merged weight, while it is kept."""
        self._layer = (layer,)  # in a tuple, so that its parameters are not counted as the model's

    def merged(self) -> Tensor:
        """The bits of PEFT's own merge."""
        delta = self._layer[0].get_delta_weight(self.adapter)
        return self.weight.detach().clone().add_(delta)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.merged() if self.kept is None else self.kept
        return functional.linear(x, weight, self.bias)


@torch.no_grad()
def with_lora(model: PreTrainedModel, folder: Path) -> PreTrainedModel | None:
    """A twin of the model with the adapter of this folder merged at each product; None where the adapter is of a kind
    that needs weights of its own. Raises as `load_lora`.
    """
    peft = load_lora(twin(model), folder).requires_grad_(False)
    tuned: dict[str, Any] = {
        name: module for name, module in peft.named_modules() if isinstance(module, BaseTunerLayer)
    }
    if not all(_is_ordinary(module) for module in tuned.values()) or _trains_whole_modules(peft):
        return None
    for name, layer in tuned.items():
        parent, _, last = name.rpartition(".")
        setattr(peft.get_submodule(parent), last, MergedLinear(layer, "default"))  # pyright: ignore
    return peft.get_base_model()  # pyright: ignore[reportReturnType]


def _is_ordinary(layer: nn.Module) -> bool:
    """Whether a tuned module is a linear layer whose weight is all that the adapter changes."""
    if type(layer) is not Linear or not isinstance(layer.get_base_layer(), nn.Linear):
        return False
    return list(layer.lora_A) == ["default"] and not layer.lora_variant and not any(layer.lora_bias.values())


def _trains_whole_modules(peft: PeftModel) -> bool:
    return any(type(module).__name__ == "ModulesToSaveWrapper" for module in peft.modules())


@contextlib.contextmanager
@torch.no_grad()
def merged_while_generating(model: nn.Module) -> Iterator[None]:
    """The model with its merged weights kept, where the free memory of its device allows."""
    layers = [module for module in model.modules() if isinstance(module, MergedLinear)]
    if layers and sum(layer.weight.nbytes for layer in layers) <= KEPT_SHARE * _free_on(layers[0].weight.device):
        for layer in layers:
            layer.kept = layer.merged()
    try:
        yield
    finally:
        for layer in layers:
            layer.kept = None


def _free_on(device: torch.device) -> int:
    """Bytes."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
