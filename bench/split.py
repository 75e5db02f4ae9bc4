"""Stage II of SAE-Tuning as `extract` runs it (prefix and the teacher's final states kept for the second epoch) beside
the plain algorithm of tests/plain.py: a random Qwen2 of 28 layers whose head has the share of the work that it has in
Qwen2-1.5B, 2 epochs, one chunk a step, CPU seconds of one thread.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from resa_hub.adapter.store import Adapter
from resa_hub.config.refs import Repo
from resa_hub.core.progress import Progress
from resa_hub.data.snapshots import locate
from resa_hub.engine.methods import sae_tuning
from resa_hub.engine.methods.teacher_states import TeacherStateCache
from resa_hub.engine.model.loading import load_base
from resa_hub.engine.model.lora import new_lora, state_of
from resa_hub.engine.sae.formats import load_saelens
from resa_hub.extraction.extract import extract
from resa_hub.extraction.run import ResourceLimits
from tests.helpers.models import byte_tokenizer
from tests.helpers.plain_sft import plain_tuning

LAYERS, WIDTH, INNER, VOCABULARY = 28, 256, 1_536, 26_624
CHUNKS, POSITIONS, REPEATS = 4, 256, 2
SETTINGS = [
    "sae.mode=scratch",
    "sae.origin=null",
    "sae.latents=256",
    "sae.k=8",
    "sae.steps=2",
    "sae.batch_tokens=64",
    "lora.rank=8",
    "lora.dropout=0",
    "dtype=float32",
    f"training.chunk_tokens={POSITIONS}",
    "training.batch_rows=1",
    "training.epochs=2",
    "training.learning_rate=1e-4",
]


def world(home: Path) -> None:
    """A random base and a registry that names it as its own source."""
    sizes: dict[str, Any] = {
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "vocab_size": VOCABULARY,
    }
    torch.manual_seed(0)
    config = Qwen2Config(
        **sizes,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    Qwen2ForCausalLM(config).save_pretrained(str(home / "base"))
    byte_tokenizer().save_pretrained(home / "base")
    rows = [json.dumps({"question": "x" * (POSITIONS - 60), "answer": f"{number:04d}"}) for number in range(CHUNKS)]
    (home / "data.jsonl").write_text("\n".join(rows) + "\n")
    (home / "registry.yaml").write_text(
        f"models:\n  base: {{id: {home}/base, recipes: {{sae-tuning: mine}}}}\n"
        f"datasets:\n  mine: {{id: {home}/data.jsonl, question: question, answer: answer}}\n"
        "recipes:\n  mine: {like: reference-code, source: base, target: base, trigger: {name: mine}, elicit: "
        "{name: mine}}\n"
    )


def ours(home: Path, layer: int, limits: ResourceLimits) -> tuple[float, Adapter, list[Tensor]]:
    """(CPU seconds of the tuning, the adapter, the chunks it was trained on)."""
    fit, found = sae_tuning.fit, {}

    def timed(*arguments: Any, **named: Any) -> Any:
        examples = next(a for a in arguments if isinstance(a, TeacherStateCache))
        began = time.process_time()
        result = fit(*arguments, **named)
        found.update(seconds=time.process_time() - began, chunks=[batch.ids for batch in examples.batches])
        return result

    sae_tuning.fit = timed
    try:
        adapter, _ = extract(
            "base",
            method="sae-tuning",
            layer=layer,
            settings=SETTINGS,
            workspace=home,
            again=True,
            limits=limits,
            progress=Progress(quiet=True),
        )
    finally:
        sae_tuning.fit = fit
    return found["seconds"], adapter, found["chunks"]


def plain(home: Path, adapter: Adapter, chunks: list[Tensor], everywhere: bool = False) -> tuple[float, float]:
    """(CPU seconds, largest difference of a weight from the adapter). everywhere: LoRA on all layers, as the reference
    has it: those before get no gradient.
    """
    recipe, base = adapter.manifest.recipe, locate(Repo(str(home / "base")))
    assert recipe is not None
    sae = load_saelens(adapter.folder / "sae" / recipe.hookpoint, WIDTH, recipe.hookpoint)
    layers = None if everywhere else range(int(recipe.hookpoint.split(".")[1]) + 1, LAYERS)
    teacher, student = load_base(base), new_lora(load_base(base), recipe.lora, layers, recipe.seed)
    damage: Callable[[Tensor], Tensor] = lambda state: sae_tuning.splice(sae, state, recipe.sae.skip_first)  # noqa: E731
    began = time.process_time()
    plain_tuning(teacher, student, recipe.hookpoint, damage, chunks, recipe.training)
    seconds = time.process_time() - began
    made, theirs = load_file(adapter.folder / "adapter_model.safetensors"), state_of(student)
    return seconds, max(float((theirs[name] - made[name]).abs().max()) for name in made if ".lora_B." in name)


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        world(home)
        for layer in (12, 20):
            best, apart = dict.fromkeys(("plain", "reference", "memory", "disk"), float("inf")), 0.0
            for _ in range(REPEATS):
                seconds, adapter, chunks = ours(home, layer, ResourceLimits())
                best["memory"] = min(best["memory"], seconds)
                best["disk"] = min(best["disk"], ours(home, layer, ResourceLimits(memory=0))[0])
                seconds, apart = plain(home, adapter, chunks)
                best["plain"] = min(best["plain"], seconds)
                best["reference"] = min(best["reference"], plain(home, adapter, chunks, everywhere=True)[0])
            print(
                f"  layers.{layer} of {LAYERS}, 2 epochs of {len(chunks)} x {POSITIONS} tokens: kept in memory "
                f"{best['plain'] / best['memory']:.2f} x the "
                f"plain algorithm, {best['reference'] / best['memory']:.2f} x with LoRA everywhere; on disk "
                f"{best['plain'] / best['disk']:.2f} x "
                f"({best['plain']:.1f} CPU s); largest difference of a B {apart:.1e}",
                flush=True,
            )
