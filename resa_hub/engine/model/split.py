"""The network cut in two at a hookpoint: prefix (embedding .. layer N) and suffix (layer N+1 .. final norm).

The model's own forward runs in both halves, so masks, rotary embeddings, sliding windows and scalings stay its own
business: the prefix stops it early, the suffix lets the layers up to N pass the given state through.
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
PROBE = 8
"""Tokens of each of the two texts by which a model is tried."""
SAME, NEAR = 1e-3, 5e-2
"""Relative norms: of the same products in the same order; of bf16 products of other shapes, or rounded elsewhere
(Gemma-2 caps its logits in bf16).
"""


class _Stop(Exception):
    pass


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The list of decoder layers, found by structure: the longest list of modules of one class; raises `DoesNotFit`
    without one.
    """
    lists = [
        m
        for m in model.modules()
        if isinstance(m, nn.ModuleList) and len(m) > 0 and len({type(layer) for layer in m}) == 1
    ]
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
    if not isinstance(mlp := getattr(layer, "mlp", None), nn.Module):
        raise DoesNotFit(
            f"{type(layer).__name__} has no module mlp for {hookpoint}", "choose the output of the layer: --layer N"
        )
    return mlp


def hook_path(model: nn.Module, hookpoint: str) -> str:
    """The name of that module inside the model, as transformers' own hooks need it."""
    wanted = hook_module(model, hookpoint)
    return next(name for name, module in model.named_modules() if module is wanted)


def _tensor(output: Tensor | tuple) -> Tensor:
    """Decoder layers return a tensor in newer transformers, a tuple in older ones."""
    return output if isinstance(output, torch.Tensor) else output[0]


def backbone(model: PreTrainedModel) -> nn.Module:
    """The model without its head; its output is the state behind the final norm."""
    return getattr(model, model.base_model_prefix)


@torch.no_grad()
def run_to_layer(model: PreTrainedModel, ids: Int[Tensor, "rows positions"], hookpoint: str) -> Hidden:
    """The state at the hookpoint; the forward pass ends there."""
    found: list[Tensor] = []

    def stop(module: nn.Module, args: tuple, output: Tensor | tuple) -> None:
        found.append(_tensor(output))
        raise _Stop

    handle = hook_module(model, hookpoint).register_forward_hook(stop)
    try:
        with contextlib.suppress(_Stop):
            backbone(model)(input_ids=ids, use_cache=False)
    finally:
        handle.remove()
    return found[0]


@torch.no_grad()
def run_to_layers(
    model: PreTrainedModel, ids: Int[Tensor, "rows positions"], hookpoints: Sequence[str]
) -> dict[str, Hidden]:
    """The states at several hookpoints from one pass, which ends at the deepest; each is what `prefix` gives."""
    found: dict[str, Tensor] = {}

    def taken(at: str) -> Callable[[nn.Module, tuple, Tensor | tuple], None]:
        def hook(module: nn.Module, args: tuple, output: Tensor | tuple) -> None:
            found[at] = _tensor(output)
            if len(found) == len(hookpoints):
                raise _Stop

        return hook

    with contextlib.ExitStack() as stack:
        for at in hookpoints:
            stack.callback(hook_module(model, at).register_forward_hook(taken(at)).remove)
        with contextlib.suppress(_Stop):
            backbone(model)(input_ids=ids, use_cache=False)
    return found


def run_from_layer(model: PreTrainedModel, ids: Int[Tensor, "rows positions"], state: Hidden, layer: int) -> Hidden:
    """The final state when `state` stands at the output of `layer`; gradient flows into the layers behind it and into
    `state`.
    """
    with _passing(model, layer, state):
        return backbone(model)(input_ids=ids, use_cache=False).last_hidden_state


@contextlib.contextmanager
def _passing(model: PreTrainedModel, layer: int, state: Hidden) -> Iterator[None]:
    """Layers 0 .. layer hand on `state` instead of computing."""
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
    """The model with `replace` applied to the output at the hookpoint."""

    def hook(module: nn.Module, args: tuple, output: Tensor | tuple) -> Tensor | tuple:
        new = replace(_tensor(output))
        return new if isinstance(output, torch.Tensor) else (new, *output[1:])

    handle = hook_module(model, hookpoint).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def last_hidden_state(model: PreTrainedModel, ids: Int[Tensor, "rows positions"]) -> Hidden:
    return backbone(model)(input_ids=ids, use_cache=False).last_hidden_state


def lm_head(model: PreTrainedModel) -> Callable[[Float[Tensor, "n width"]], Float[Tensor, "n vocab"]]:
    """Final state -> float32 logits, soft-capping included; equal to the model's own."""
    linear = model.get_output_embeddings()
    config = model.config.get_text_config()
    cap = getattr(config, "final_logit_softcapping", None)
    divisor, factor = getattr(config, "logits_scaling", None), getattr(config, "logit_scale", None)  # Granite, Cohere

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
    """Raise `DoesNotFit` unless this very model can be cut: its halves make the whole, its head makes its logits, and
    it looks at the past alone.
    """
    name = f"{type(model).__name__} ({model.config.model_type})"
    hint = "this architecture cannot be used here; choose another model"
    layer = len(decoder_layers(model)) // 2
    ids = torch.arange(3, 3 + 2 * PROBE, device=model.device).view(2, PROBE) % model.config.get_text_config().vocab_size
    try:
        whole, logits = last_hidden_state(model, ids), model(input_ids=ids, use_cache=False).logits.float()
        halves, made = (
            run_from_layer(model, ids, run_to_layer(model, ids, f"layers.{layer}"), layer),
            lm_head(model)(whole),
        )
    except Exception as error:  # whatever a strange forward does with what it is handed
        raise DoesNotFit(
            f"{name} cannot be cut at a layer: {str(error).splitlines()[0][:120] or type(error).__name__}", hint
        ) from None
    if _relative_error(halves, whole) > SAME:
        raise DoesNotFit(f"{name} cannot be cut at a layer: its halves do not make the whole", hint)
    if made.shape != logits.shape or _relative_error(made, logits) > NEAR:
        raise DoesNotFit(f"{name} makes its logits in another way than by its head", hint)
    if _relative_error(last_hidden_state(model, ids[:, :-1]), whole[:, :-1]) > NEAR:
        raise DoesNotFit(f"{name} looks at later tokens: it is no decoder", hint)


def _relative_error(one: Tensor, other: Tensor) -> float:
    """Norm of the difference relative to that of `other`; infinite where it is no number."""
    ratio = float((one.float() - other.float()).norm() / other.float().norm().clamp(min=1e-12))
    return ratio if ratio == ratio else float("inf")
