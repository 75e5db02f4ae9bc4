"""A target with an adapter attached: its effect, its completions, and the merged model."""

import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from ...core.errors import RunFailed
from ...core.progress import waiting
from ...data.snapshots import Files
from ..generation.sampling import generate, uniforms
from .loading import end_tokens, load_base, load_tokenizer
from .lora import load_lora
from .probe import Effect, measure
from .tokens import prompt


class AttachedModel(NamedTuple):
    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    template: str | None

    def effect(self, texts: Sequence[str], dtype: str | None) -> Effect:
        """What the adapter does to the texts. dtype: what it is computed in; None: what the model is held in."""
        return measure(self.model, self.tokenizer, texts, dtype)

    def complete(self, questions: Sequence[str], *, temperature: float, new_tokens: int, seed: int) -> tuple[str, ...]:
        """One completion a question in their order, special tokens left out."""
        prompts = [prompt(self.tokenizer, self.template, question) for question in questions]
        noise = uniforms(seed, [(question, 0) for question in questions], new_tokens)
        inner = self.model.get_base_model()
        texts = [""] * len(prompts)
        ends = end_tokens(inner, self.tokenizer)  # pyright: ignore[reportArgumentType]
        for finished in generate(inner, prompts, noise, temperature=temperature, end_tokens=ends):
            for completion in finished:
                texts[completion.index] = str(self.tokenizer.decode(completion.tokens, skip_special_tokens=True))
        return tuple(texts)

    def merge(self, folder: Path) -> Path:
        """Write the target with the adapter in its weights, whole or not at all; the adapter is gone from this model
        afterwards. Raises `RunFailed` where the folder cannot be written.
        """
        staged = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
        try:
            with waiting(f"writing the merged model to {folder}"):
                merged = self.model.merge_and_unload()  # pyright: ignore[reportCallIssue]
                merged.save_pretrained(staged)  # pyright: ignore[reportCallIssue]
            self.tokenizer.save_pretrained(staged)
            for file in staged.iterdir():
                file.chmod(0o666 & ~_umask())  # safetensors writes for its owner alone
            if folder.exists():
                folder.rmdir()
            staged.rename(folder)
        except OSError as error:
            raise RunFailed(
                f"cannot write {folder}: {error.strerror or error}", "check the permissions and the free space"
            ) from None
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        return folder


def _umask() -> int:
    """What the process takes from the mode of new files; it can be read by setting it alone."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def open_attached(target: Files, adapter: Path, dtype: str, template: str | None) -> AttachedModel:
    """Load the target and attach the adapter; raises `NoEffect` unless every tensor is consumed."""
    return AttachedModel(load_lora(load_base(target, dtype), adapter), load_tokenizer(target), template)
