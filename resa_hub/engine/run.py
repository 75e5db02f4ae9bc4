"""One extraction from loaded references to the files of an adapter."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..adapter.manifest import Probe, SaeRecord
from ..core.errors import NoEffect
from ..data.snapshots import Files
from .methods import method, screened
from .methods.context import ExtractionContext
from .model.loading import is_emulated
from .model.lora import load_lora, modules_of, save_lora
from .model.probe import DTYPE, measure
from .sae.formats import save_saelens
from .sae.train import TrainedSae


class ExtractionResult(NamedTuple):
    probe: Probe
    sae: SaeRecord | None
    """Of the shallowest hookpoint."""
    tokens: int
    findings: dict[str, Any]
    hookpoint: str
    """The shallowest one, settled where the recipe left it open."""


def run_worker(context: ExtractionContext) -> None:
    """What the other processes of a group do: they compute, the first one writes."""
    method(context.recipe.method)(context)


def make(context: ExtractionContext, target: Files, folder: Path) -> ExtractionResult:
    """Run the method, write adapter and SAE into `folder`, and measure the effect of the written bytes on the target
    itself.

    Raises `NoEffect` when the adapter changes no logit, or no more than rounding does.
    """
    # Before the method runs: a wrong name of a module is an error now, not after hours of work.
    modules = modules_of(context.target, context.recipe.lora)
    unexpected_modules = set(modules) != set(context.recipe.lora.modules)
    if unexpected_modules:
        context.progress.say(f"  the LoRA stands on every linear module of the layers: {', '.join(modules)}")
    if is_emulated(context.recipe.dtype):
        context.progress.say(
            "  this processor has no bfloat16 instructions: --set dtype=float32 would be many times faster"
        )
    output = method(context.recipe.method)(context)
    recipe = context.recipe  # from here on with the choices of the screen
    save_lora(output.state, recipe.lora, folder, target.id, target.revision, output.layers)
    records = _save_saes(context, output.saes, folder)
    effect = measure(load_lora(context.models.new_twin(), folder), context.models.tokenizer, output.probe_texts)
    if effect.is_rounding:
        moved = f"moves its own base by {effect.kl:.2g} nats a token, as little as rounding does ({effect.noise:.2g})"
        raise NoEffect(
            f"the extracted adapter {'changes no logit of its own base' if effect.identical else moved}",
            "raise it with --set training.learning_rate=... or training.epochs=...",
        )
    findings = dict(output.findings)
    if len(records) > 1:
        findings["saes"] = {record.hookpoint: record.quality for record in records}
    if unexpected_modules:
        findings["modules"] = modules
    probe = Probe(output.probe_texts, effect.kl, DTYPE)
    return ExtractionResult(probe, records[0] if records else None, output.tokens, findings, recipe.hookpoint)


def screen(context: ExtractionContext) -> list[dict[str, Any]]:
    """What the screen tries and chooses, and nothing more: no adapter is trained."""
    return screened(context.recipe.method)(context).findings["screen"]


def hardware() -> str:
    if torch.cuda.is_available():
        return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


def _save_saes(context: ExtractionContext, saes: Mapping[str, TrainedSae], folder: Path) -> Sequence[SaeRecord]:
    """Write them to sae/HOOKPOINT, the shallowest first."""
    settings, records = context.recipe.sae, []
    for hookpoint, trained in saes.items():
        sae = trained.sae
        origin = settings.origin if trained.start and settings.origin else settings.mode
        save_saelens(sae, folder / "sae" / hookpoint, context.recipe.source)
        records.append(SaeRecord(origin, hookpoint, sae.cfg.d_sae, sae.cfg.k, trained.quality, trained.start))
    return records
