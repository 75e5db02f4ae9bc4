"""One extraction from loaded references to the files of an adapter."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..adapter.manifest import Probe, SaeRecord
from ..core.errors import NoEffect
from ..data.snapshots import Files
from .methods import method, screened
from .methods.context import ExtractionContext
from .model.loading import crawls, load_base
from .model.lora import load_lora, modules_of, save_lora
from .model.probe import measure
from .sae.files import save


class ExtractionResult(NamedTuple):
    probe: Probe
    sae: SaeRecord | None
    tokens: int
    findings: dict[str, Any]
    hookpoint: str
    """The shallowest one, settled where the recipe left it open."""


def run_worker(session: ExtractionContext) -> None:
    """What the other processes of a group do: they compute, the first one writes."""
    method(session.recipe.method)(session)


def make(session: ExtractionContext, target: Files, folder: Path) -> ExtractionResult:
    """Run the method, write adapter and SAE into `folder`, and measure the effect of the written bytes on the target
    itself.

    Raises `NoEffect` when the adapter changes no logit.
    """
    carriers = modules_of(
        session.target, session.recipe.lora
    )  # a wrong name is told before hours of work, not behind them
    if other := set(carriers) != set(session.recipe.lora.modules):
        session.progress.say(f"  the LoRA stands on every linear module of the layers: {', '.join(carriers)}")
    if crawls(session.recipe.dtype):
        session.progress.say(
            "  this processor has no bfloat16 instructions: --set dtype=float32 would be many times faster"
        )
    result = method(session.recipe.method)(session)
    recipe = session.recipe
    save_lora(result.state, recipe.lora, folder, target.id, target.revision, result.layers)
    records = []
    for at, trained in result.saes.items():
        sae, origin = trained.sae, recipe.sae.origin if trained.start and recipe.sae.origin else recipe.sae.mode
        save(sae, folder / "sae" / at, recipe.source)
        records.append(SaeRecord(origin, at, sae.cfg.d_sae, sae.cfg.k, trained.quality, trained.start))
    effect = measure(load_lora(load_base(target, recipe.dtype), folder), session.tokenizer, result.probe_texts)
    if effect.identical:
        raise NoEffect(
            "the extracted adapter changes no logit of its own base",
            "raise it with --set training.learning_rate=... or training.epochs=...",
        )
    findings = result.findings | (
        {"saes": {record.hookpoint: record.quality for record in records}} if len(records) > 1 else {}
    )
    findings |= {"modules": carriers} if other else {}
    return ExtractionResult(
        Probe(texts=result.probe_texts, kl=effect.kl),
        records[0] if records else None,
        result.tokens,
        findings,
        recipe.hookpoint,
    )


def screen(session: ExtractionContext) -> list[dict[str, Any]]:
    """What the screen tries and chooses, and nothing more: no adapter is trained."""
    return screened(session.recipe.method)(session).findings["screen"]


def hardware() -> str:
    if torch.cuda.is_available():
        return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return f"CPU, {torch.get_num_threads()} thread(s)"
