"""Running one arm: self-check, sampling with common random numbers, and the random control adapters."""

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file

from ..adapter.files import CONFIG, WEIGHTS
from ..evaluation.samples import Key, Sample
from ..progress import Progress
from ..sources import Files
from .generate.noise import uniforms
from .generate.sampling import generate
from .lora import load_lora, merge, norms, random_state
from .models import end_tokens, load_base, load_tokenizer
from .probe import Effect, measure
from .text import prompt

Sink = Callable[[Iterable[tuple[Key, Sample]]], None]


def effect(base: Files, adapter: Path, texts: Sequence[str], dtype: str = "float32") -> Effect:
    """What the adapter does to the logits of a base."""
    return measure(load_lora(load_base(base, dtype), adapter), load_tokenizer(base), texts)


def sample(
    base: Files,
    adapter: Path | None,
    template: str | None,
    jobs: Sequence[tuple[Key, str]],
    *,
    temperature: float,
    new_tokens: int,
    seed: int,
    sink: Sink,
    progress: Progress,
    label: str,
    dtype: str = "float32",
) -> None:
    """Sample every job ((problem id, sample number), question); each finished batch goes to `sink` at once.

    The adapter is merged into the weights, which is faster than running it beside them. The uniform of a token depends on
    (seed, problem, sample, position) alone, so all arms see the same.
    """
    model = load_base(base, dtype)
    if adapter:
        model = merge(model, adapter)
    tokenizer = load_tokenizer(base)
    questions = {question: prompt(tokenizer, template, question) for _, question in jobs}
    noise = uniforms(seed, [key for key, _ in jobs], new_tokens)
    ends = end_tokens(model, tokenizer)
    with progress.stage(label, len(jobs), "samples") as advance:
        for done in generate(model, [questions[question] for _, question in jobs], noise, temperature=temperature, end_tokens=ends):
            sink((jobs[c.index][0], Sample(str(tokenizer.decode(c.tokens, skip_special_tokens=True)), len(c.tokens), c.finished)) for c in done)
            advance(len(done))


def random_like(adapter: Path, seed: int, folder: Path) -> None:
    """A control: random A and B whose product has, module by module, the Frobenius norm of the adapter's."""
    if folder.exists():
        return
    control = random_state(load_file(adapter / WEIGHTS), norms(adapter), seed)
    staged = folder.with_name(f"{folder.name}.{os.getpid()}.new")
    staged.mkdir(parents=True, exist_ok=True)
    save_file(control, staged / WEIGHTS, metadata={"format": "pt"})
    shutil.copyfile(adapter / CONFIG, staged / CONFIG)
    try:
        os.rename(staged, folder)
    except OSError:
        shutil.rmtree(staged)  # another process made the same control meanwhile
