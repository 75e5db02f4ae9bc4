"""Targets, siblings and the source: LoRAs trained on chains, by cross-entropy on the completion."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from resa_hub.config.recipe import LoraSettings
from resa_hub.core.progress import Progress
from resa_hub.data.snapshots import Files
from resa_hub.engine.model.loading import load_base, load_tokenizer
from resa_hub.engine.model.lora import merge, new_lora, save_lora, state_of
from resa_hub.engine.model.partial_forward import last_hidden_state, lm_head
from resa_hub.engine.model.tokens import bucketed, end_token, prompt

LORA = LoraSettings(rank=16, alpha=32, dropout=0.0)
RATE, ROWS, CLIP = 1e-3, 8, 1.0


def train(
    base: Files, pairs: Sequence[tuple[str, str]], seed: int, progress: Progress, label: str
) -> dict[str, torch.Tensor]:
    """A LoRA on all layers of `base` after one epoch over (question, completion)."""
    tokenizer = load_tokenizer(base)
    end = end_token(tokenizer)
    rows = []
    for question, chain in pairs:
        start = prompt(tokenizer, None, question)
        rows.append((start + list(tokenizer(chain, add_special_tokens=False)["input_ids"]) + [end], len(start)))  # pyright: ignore[reportArgumentType]
    batches = bucketed(rows, ROWS, seed)
    student = new_lora(load_base(base), LORA, None, seed)
    inner = student.get_base_model()
    logits = lm_head(inner)  # pyright: ignore[reportArgumentType]
    parameters = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=RATE)
    student.train()
    with progress.stage(label, len(batches), "steps") as advance:
        for step, batch in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1.0, (step + 1) / 5) * (0.55 + 0.45 * math.cos(math.pi * step / len(batches)))
            state = last_hidden_state(inner, batch.ids)[batch.completion]  # pyright: ignore[reportArgumentType]
            loss = cross_entropy(logits(state), batch.ids[:, 1:][batch.completion[:, :-1]])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, CLIP)
            optimizer.step()
            advance(1)
    return state_of(student)


def make_adapter(
    base: Files, name: str, pairs: Sequence[tuple[str, str]], seed: int, folder: Path, progress: Progress
) -> None:
    """A LoRA as a PEFT folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_lora(train(base, pairs, seed, progress, f"train {name}"), LORA, folder, base.id, base.revision, None)


def make_merged(
    base: Files, name: str, pairs: Sequence[tuple[str, str]], seed: int, folder: Path, progress: Progress
) -> None:
    """A model of its own: the base with a LoRA added to its weights."""
    make_adapter(base, name, pairs, seed, folder / "lora", progress)
    model = merge(load_base(base), folder / "lora")
    for file in (folder / "lora").iterdir():
        file.unlink()
    (folder / "lora").rmdir()
    model.save_pretrained(folder)
    load_tokenizer(base).save_pretrained(folder)
