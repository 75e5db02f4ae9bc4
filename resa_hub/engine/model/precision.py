"""A model computed in a wider type than it is held in, module by module: no second copy of its weights is made."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .partial_forward import decoder_layers


@contextlib.contextmanager
def computed_in(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """The model with every product and state in `dtype`. While a decoder layer runs, its weights are there in `dtype`
    too; outside of the layers that is so for each module by itself.

    Of a `dtype` that holds every value of the model's own, the results are those of the model loaded in it.
    """
    if all(p.dtype == dtype for p in model.parameters()):
        yield
        return
    layers = list(decoder_layers(model))
    inside = {id(module) for layer in layers for module in layer.modules()}
    single = [m for m in model.modules() if id(m) not in inside and next(m.parameters(recurse=False), None) is not None]
    casts = [_Cast(module, dtype) for module in (*layers, *single)]
    try:
        yield
    finally:
        for cast in casts:
            cast.remove()


class _Cast:
    """Hooks by which one module computes in another type."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        self.module, self.dtype = module, dtype
        self.held: list[tuple[Tensor, Tensor]] = []
        """(parameter or buffer, its own values), while the module runs."""
        if type(module) is nn.Embedding:  # casting the rows that it reads saves a copy of the whole table
            self.hooks = [module.register_forward_hook(self._cast_output)]
        else:
            restore = module.register_forward_hook(self._restore, always_call=True)
            self.hooks = [module.register_forward_pre_hook(self._widen), restore]

    def remove(self) -> None:
        for hook in self.hooks:
            hook.remove()
        self._restore()

    def _widen(self, *_: Any) -> None:
        for tensor in (*self.module.parameters(), *self.module.buffers()):
            if tensor.is_floating_point() and tensor.dtype != self.dtype:
                self.held.append((tensor, tensor.data))
                tensor.data = tensor.data.to(self.dtype)

    def _restore(self, *_: Any) -> None:
        while self.held:
            tensor, own = self.held.pop()
            tensor.data = own

    def _cast_output(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return output.to(self.dtype)
