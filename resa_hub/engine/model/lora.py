"""LoRA through PEFT: create, save canonically, load with proof that every tensor was consumed, merge."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from ...adapter.layout import CONFIG, WEIGHTS
from ...config.recipe import ALL_LINEAR, LoraSettings
from ...core.errors import DoesNotFit, NoEffect, Usage
from .lora_forward import use_fused_lora
from .partial_forward import decoder_layers

State = dict[str, Tensor]
"""The tensors of an adapter under the names of its file: base_model.model.<module>.lora_A.weight [rank, in], lora_B
[out, rank].
"""


def new_lora(model: PreTrainedModel, settings: LoraSettings, layers: Iterable[int] | None, seed: int) -> PeftModel:
    """A fresh LoRA (B = 0) on these layers, all layers for None; a function of the seed. Raises `DoesNotFit` for
    modules that the model lacks, `Usage` for settings that PEFT refuses.
    """
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=modules_of(model, settings),
        layers_to_transform=None if layers is None else list(layers),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            peft = get_peft_model(model, config)
        except ValueError as error:
            raise Usage(
                f"the LoRA cannot be made: {str(error).splitlines()[0][:160]}",
                "check lora.modules, lora.rank and lora.dropout",
            ) from None
    for parameter in peft.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # master weights of a bf16 model
    return peft


def modules_of(model: PreTrainedModel, settings: LoraSettings) -> list[str]:
    """Names of the modules that carry the LoRA: every linear layer of the decoder layers for `all-linear` and for the
    default, else those of the settings. Raises `DoesNotFit` where there is none of a name.

    The default names all linear layers of a Llama-like layer; where layers are built otherwise it means the same,
    whatever they are called.
    """
    named = [pair for layer in decoder_layers(model) for pair in layer.named_modules()]
    paths = [name for name, module in named if isinstance(module, nn.Linear)]
    present = list(dict.fromkeys(name.rpartition(".")[2] for name in paths))
    if not present:
        raise DoesNotFit(
            f"the layers of {type(model).__name__} hold no linear module for a LoRA", "use another architecture"
        )
    if settings.modules == (ALL_LINEAR,) or set(settings.modules) == set(LoraSettings().modules):
        return present
    absent = [name for name in settings.modules if not any(f".{path}".endswith(f".{name}") for path in paths)]
    if absent:
        raise DoesNotFit(
            f"no linear module of {type(model).__name__} is called {absent[0]}; its layers have {', '.join(present)}",
            f"--set 'lora.modules=[{present[0]}, ...]', or lora.modules=[{ALL_LINEAR}]",
        )
    return list(settings.modules)


def module_of(name: str) -> str:
    """The module's own name, from a tensor's: base_model.model.model.layers.0.mlp.up_proj.lora_A.weight -> up_proj."""
    return name.rpartition(".lora_")[0].rpartition(".")[2]


def share_lora(peft: PeftModel, model: PreTrainedModel, settings: LoraSettings) -> PeftModel:
    """`model`, of the same shapes as that of `peft`, with the very tensors of its LoRA: training one trains both."""
    other = new_lora(model, settings, None, 0)
    modules = dict(peft.named_modules())
    for name, module in other.named_modules():
        if isinstance(module, nn.Linear) and (".lora_A." in name or ".lora_B." in name):
            module.weight = modules[name].weight  # pyright: ignore[reportAttributeAccessIssue]
    return use_fused_lora(other)


def state_of(peft: PeftModel, adapter: str = "default") -> State:
    """The tensors of one adapter of the model, in main memory, sorted by name."""
    state = get_peft_model_state_dict(peft, adapter_name=adapter, save_embedding_layers=False)
    return {name: state[name].detach().cpu().contiguous() for name in sorted(state)}


def save_lora(
    state: State, settings: LoraSettings, folder: Path, base: str, revision: str | None, layers: Iterable[int] | None
) -> None:
    """Write a plain PEFT folder, the same bytes every time: PEFT's own writer orders modules by hash seed and adds its
    version. base, revision: the model it belongs to. layers: those that carry it, None for all.
    """
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    config = {
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "layers_to_transform": None if layers is None else sorted(layers),
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": settings.rank,
        "revision": revision,
        "target_modules": sorted({module_of(name) for name in state}),
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def load_lora(model: PreTrainedModel | PeftModel, folder: Path, name: str = "default") -> PeftModel:
    """`model` in evaluation mode with the adapter on it, beside those it has; raises `NoEffect` unless every tensor of
    the file is in the model, value for value.
    """
    try:
        if isinstance(model, PeftModel):
            model.load_adapter(str(folder), name)
            peft = model
        else:
            peft = PeftModel.from_pretrained(model, folder, name)
    except ValueError as error:
        raise NoEffect(
            f"PEFT finds no module for the adapter: {str(error).splitlines()[0][:160]}",
            "its target modules do not exist in this model",
        ) from None
    _check_consumed(load_file(folder / WEIGHTS), state_of(peft, name))
    return peft.eval()


def _check_consumed(given: State, present: State) -> None:
    """Raise `NoEffect` unless the tensors of the file are those in the model, in the type of the file."""

    def arrived(name: str) -> bool:
        return name in present and torch.equal(given[name], present[name].to(given[name].dtype))

    lost = [name for name in given if not arrived(name)]
    if lost:
        raise NoEffect(
            f"{len(lost)} of {len(given)} tensors did not reach the model, {lost[0]} first",
            "its keys were renamed: pull or extract it again",
        )
    absent = sorted(present.keys() - given.keys())
    if absent:
        raise NoEffect(
            f"the adapter's config asks for {len(absent)} tensors that its file lacks, {absent[0]} first",
            "it is incomplete: pull or extract it again",
        )


def merge(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The model with the adapter added to its weights, for fast generation."""
    return load_lora(model, folder).merge_and_unload()  # pyright: ignore[reportCallIssue, reportReturnType]


def norms(folder: Path, scaling: float = 1.0) -> dict[str, float]:
    """Frobenius norm of scaling B A of every module of an adapter folder, by the name of its A."""
    return {name: scaling * float(product_norm(b, a)) for name, b, a in _factors(folder)}


def random_state(shapes: State, wanted: Mapping[str, float], seed: int) -> State:
    """Random A and B of these shapes whose product has, module by module, the norm that `wanted` says (by the name of
    A).
    """
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name in sorted(wanted):
        a = torch.randn(shapes[name].shape, generator=generator)
        b = torch.randn(shapes[partner(name)].shape, generator=generator)
        ratio = wanted[name] / product_norm(b, a)
        state[name], state[partner(name)] = a.contiguous(), (ratio * b).contiguous()
    return state


def _factors(folder: Path) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(name of A, B, A) of every module of an adapter folder, in float32."""
    state = load_file(folder / WEIGHTS)
    for name, tensor in state.items():
        if ".lora_A." in name:
            yield name, state[partner(name)].float(), tensor.float()


def partner(name: str) -> str:
    """The name of the B that belongs to an A."""
    return name.replace(".lora_A.", ".lora_B.")


def product_norm(b: Tensor, a: Tensor) -> Tensor:
    """Frobenius norm of B A without computing the product: sqrt(trace((B'B)(A A'))). B [out, rank], A [rank, in]."""
    return ((b.T @ b) * (a @ a.T)).sum().clamp(min=0).sqrt()


def largest_entry(folder: Path) -> float:
    """The largest change that an adapter makes to a weight, without its scaling: max |B A| over its modules."""
    return max((float((b @ a).abs().max()) for _, b, a in _factors(folder)), default=0.0)
