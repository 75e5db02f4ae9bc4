"""The network cut in two at a hookpoint: up to layer N (`run_to_layer`) and from layer N+1 to the final norm
(`run_from_layer`).

The model's own forward runs in both halves, so masks, rotary embeddings, sliding windows and scalings stay its own
business: the first half stops it early, the second lets the layers up to N hand on the given state.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from ...config.refs import layer_of
from ...core.errors import DoesNotFit, Usage

Hidden = Float[Tensor, "rows positions width"]
TokenIds = Int[Tensor, "rows positions"]
PROBE_TOKENS = 8
"""Length of each of the two texts by which a model is tried."""
SAME_PRODUCTS, ROUNDED = 1e-3, 5e-2
"""Relative differences allowed: between the same products in the same order; between bf16 products of other shapes, or
rounded elsewhere (Gemma-2 caps its logits in bf16).
"""


class _StopForward(Exception):
    """Ends a forward pass at a hook."""


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The list of decoder layers, found by structure: the longest list of modules of one class; raises `DoesNotFit`
    without one.
    """
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    lists = [modules for modules in lists if len({type(module) for module in modules}) == 1]
    if not lists:
        raise DoesNotFit(
            f"{type(model).__name__} has no list of decoder layers",
            "only decoder-only models of transformers can be used",
        )
    return max(lists, key=len)


def check_layer(model: nn.Module, hookpoint: str) -> int:
    """The layer of a hookpoint; raises `Usage` when the model does not have it."""
    layer, count = layer_of(hookpoint), len(decoder_layers(model))
    if layer >= count:
        raise Usage(
            f"{hookpoint} does not exist: the model has {count} layers", f"choose layers.0 to layers.{count - 1}"
        )
    return layer


def hook_module(model: nn.Module, hookpoint: str) -> nn.Module:
    """The module whose output a hookpoint names."""
    layer = decoder_layers(model)[check_layer(model, hookpoint)]
    if not hookpoint.endswith(".mlp"):
        return layer
    mlp = getattr(layer, "mlp", None)
    if not isinstance(mlp, nn.Module):
        raise DoesNotFit(
            f"{type(layer).__name__} has no module mlp for {hookpoint}", "choose the output of the layer: --layer N"
        )
    return mlp


def hook_path(model: nn.Module, hookpoint: str) -> str:
    """The name of that module inside the model, as transformers' own hooks need it."""
    wanted = hook_module(model, hookpoint)
    return next(name for name, module in model.named_modules() if module is wanted)


def _hidden_state(output: Tensor | tuple) -> Hidden:
    """A decoder layer's output: a tensor in newer transformers, the first of a tuple in older ones."""
    return output if isinstance(output, torch.Tensor) else output[0]


def backbone(model: PreTrainedModel) -> nn.Module:
    """The model without its head; its output is the state behind the final norm."""
    return getattr(model, model.base_model_prefix)


@torch.no_grad()
def run_to_layer(model: PreTrainedModel, ids: TokenIds, hookpoint: str) -> Hidden:
    """The state at the hookpoint, [rows, positions, width], in the model's own type, without gradient. The forward pass
    ends there: no later layer is computed.
    """
    states: list[Tensor] = []

    def stop(module: nn.Module, args: tuple, output: Tensor | tuple) -> None:
        states.append(_hidden_state(output))
        raise _StopForward

    handle = hook_module(model, hookpoint).register_forward_hook(stop)
    try:
        with contextlib.suppress(_StopForward):
            backbone(model)(input_ids=ids, use_cache=False)
    finally:
        handle.remove()
    return states[0]


@torch.no_grad()
def run_to_layers(model: PreTrainedModel, ids: TokenIds, hookpoints: Sequence[str]) -> dict[str, Hidden]:
    """The states at several hookpoints, each what `run_to_layer` gives, from one pass that ends at the deepest."""
    states: dict[str, Tensor] = {}

    def recorder(hookpoint: str) -> Callable[[nn.Module, tuple, Tensor | tuple], None]:
        def record(module: nn.Module, args: tuple, output: Tensor | tuple) -> None:
            states[hookpoint] = _hidden_state(output)
            if len(states) == len(hookpoints):
                raise _StopForward

        return record

    with contextlib.ExitStack() as stack:
        for hookpoint in hookpoints:
            handle = hook_module(model, hookpoint).register_forward_hook(recorder(hookpoint))
            stack.callback(handle.remove)
        with contextlib.suppress(_StopForward):
            backbone(model)(input_ids=ids, use_cache=False)
    return states


def run_from_layer(model: PreTrainedModel, ids: TokenIds, state: Hidden, layer: int) -> Hidden:
    """The last hidden state [rows, positions, width] of the model when the output of `layer` is `state` [rows,
    positions, width].

    Only the layers behind `layer` and the final norm are computed; gradient flows into them and into `state`. ids: the
    texts that `state` belongs to, for positions and masks.
    """
    with _handing_on(model, layer, state):
        return last_hidden_state(model, ids)


@contextlib.contextmanager
def _handing_on(model: PreTrainedModel, layer: int, state: Hidden) -> Iterator[None]:
    """The model with layers 0 .. `layer` returning `state` instead of computing."""
    skipped = list(decoder_layers(model)[: layer + 1])
    for module in skipped:
        module.forward = lambda *args, **kwargs: state  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        for module in skipped:
            del module.forward


@contextlib.contextmanager
def spliced(model: PreTrainedModel, hookpoint: str, replace: Callable[[Hidden], Hidden]) -> Iterator[None]:
    """The model with `replace` applied to the output of the module at the hookpoint in every forward pass.

    replace: [rows, positions, width] -> the same shape; gradient flows through it.
    """

    def hook(module: nn.Module, args: tuple, output: Tensor | tuple) -> Tensor | tuple:
        new = replace(_hidden_state(output))
        return new if isinstance(output, torch.Tensor) else (new, *output[1:])

    handle = hook_module(model, hookpoint).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def last_hidden_state(model: PreTrainedModel, ids: TokenIds) -> Hidden:
    return backbone(model)(input_ids=ids, use_cache=False).last_hidden_state


def lm_head(model: PreTrainedModel) -> Callable[[Float[Tensor, "n width"]], Float[Tensor, "n vocab"]]:
    """Last hidden state -> float32 logits, scaling and soft-capping included; equal to the model's own."""
    linear = model.get_output_embeddings()
    config = model.config.get_text_config()
    cap = getattr(config, "final_logit_softcapping", None)  # Gemma 2
    divisor = getattr(config, "logits_scaling", None)  # Granite
    factor = getattr(config, "logit_scale", None)  # Cohere

    def logits(state: Tensor) -> Tensor:
        values = linear(state).float()  # pyright: ignore[reportOptionalCall]
        if divisor:
            values = values / divisor
        if isinstance(factor, float | int):
            values = values * factor
        return cap * torch.tanh(values / cap) if cap else values

    return logits


@torch.no_grad()
def check_splittable(model: PreTrainedModel) -> None:
    """Raise `DoesNotFit` unless this very model can be cut: both halves after each other give what the whole gives,
    `lm_head` gives its logits, and it looks at the past alone. Tried on two texts of arbitrary tokens.
    """
    name = f"{type(model).__name__} ({model.config.model_type})"
    hint = "this architecture cannot be used here; choose another model"
    layer = len(decoder_layers(model)) // 2
    tokens = torch.arange(3, 3 + 2 * PROBE_TOKENS, device=model.device)
    ids = tokens.view(2, PROBE_TOKENS) % model.config.get_text_config().vocab_size
    try:
        whole, logits = last_hidden_state(model, ids), model(input_ids=ids, use_cache=False).logits.float()
        halves = run_from_layer(model, ids, run_to_layer(model, ids, f"layers.{layer}"), layer)
        from_head = lm_head(model)(whole)
    except Exception as error:  # whatever an unknown forward does with what it is handed
        first_line = next(iter(str(error).splitlines()), "")
        reason = first_line[:120] or type(error).__name__
        raise DoesNotFit(f"{name} cannot be cut at a layer: {reason}", hint) from None
    if _relative_error(halves, whole) > SAME_PRODUCTS:
        raise DoesNotFit(f"{name} cannot be cut at a layer: its halves do not make the whole", hint)
    if from_head.shape != logits.shape or _relative_error(from_head, logits) > ROUNDED:
        raise DoesNotFit(f"{name} makes its logits in another way than by its head", hint)
    if _relative_error(last_hidden_state(model, ids[:, :-1]), whole[:, :-1]) > ROUNDED:
        raise DoesNotFit(f"{name} looks at later tokens: it is no decoder", hint)


def _relative_error(one: Tensor, other: Tensor) -> float:
    """Norm of the difference relative to that of `other`; infinite where it is no number."""
    ratio = float((one.float() - other.float()).norm() / other.float().norm().clamp(min=1e-12))
    return ratio if ratio == ratio else float("inf")
