"""The embedded engine: transformers with batched generation; the base is loaded once, arms are switched by exchanging
weights.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn

from ...core.errors import RunFailed
from ...data.snapshots import Files
from ..model import probe
from ..model.loading import end_tokens, load_base, load_tokenizer
from ..model.lora import load_lora
from .base import BASE_CHANGED, EngineConfig, Finished, Job, Sample, Sampling
from .noise import uniforms
from .sampling import generate

MOST_ROWS = 256
CACHE_BYTES = 4 << 30
"""What the KV cache of one batch may take; of a GPU a third of what is free."""
TRIAL_TOKENS = 4
"""How long the batches are on which the two ways are timed."""
BASE = "__base__"
"""PEFT's name for no adapter."""


class TransformersEngine:
    """Arms run in one of two ways. `merged`: one after another, each merged into the weights, the originals kept aside,
    so that base comes back bit for bit.
    `beside`: PEFT runs the adapters beside the weights, rows of all arms mixed in one batch. In float32 the faster one
    for the load at hand is taken, by timing both where arms are too small to fill a batch. In half precision it is
    `beside`: merging would round small adapters away.
    """

    def __init__(self, base: Files, arms: Mapping[str, Path | None], means: EngineConfig) -> None:
        self.model = load_base(base, means.dtype)
        self.tokenizer = load_tokenizer(base)
        self.ends = end_tokens(self.model, self.tokenizer)
        self.way = means.lora if means.dtype == "float32" or means.lora != "auto" else "beside"
        self.about = {
            "name": "transformers",
            "version": transformers.__version__,
            "device": self.model.device.type,
            "dtype": means.dtype,
        }
        self.rows = max(
            1, min(MOST_ROWS, _cache_bytes(self.model.device) // (means.longest * _bytes_a_token(self.model)))
        )
        self.names = {arm: f"arm{number}" for number, (arm, folder) in enumerate(arms.items()) if folder}
        self.peft: Any = self.model
        for arm, name in self.names.items():
            folder = arms[arm]
            assert folder
            self.peft = load_lora(self.peft, folder, name)
        self.peft.eval()
        self.places: list[tuple[nn.Module, str, Any]] = [
            (self.model.get_submodule(path.rpartition(".")[0]), path.rpartition(".")[2], module)
            for path, module in self.model.named_modules()
            if isinstance(module, LoraLayer)
        ]
        self.kept: list[tuple[nn.Parameter, Tensor]] = []
        self._unwrap()

    def check(self, texts: Mapping[str, Sequence[str]]) -> set[str]:
        base = {text: self._logits(None, text) for listed in texts.values() for text in listed}
        found = {
            arm
            for arm in self.names
            if all(torch.equal(self._logits(arm, text), base[text]) for text in texts.get(arm, ()))
        }
        if not all(torch.equal(self._logits(None, text), logits) for text, logits in base.items()):
            raise RunFailed("the base model has changed while adapters were on it", BASE_CHANGED)
        return found

    def run(self, jobs: Sequence[Job], how: Sampling) -> Iterator[list[Finished]]:
        queues: dict[str, list[Job]] = {}
        for job in sorted(jobs, key=lambda job: len(job.prompt)):
            queues.setdefault(job.arm, []).append(job)
        if self._way(queues, how) == "merged":
            for arm, queue in queues.items():
                yield from self._merged(arm, queue, how)
        else:
            yield from self._beside(sorted(jobs, key=lambda job: len(job.prompt)), how)

    def close(self) -> None:
        self._restore()

    def _way(self, queues: Mapping[str, list[Job]], how: Sampling) -> str:
        """Arms that fill batches of their own gain nothing by mixing: the same base work, and the adapters' on top.
        Smaller ones are timed.
        """
        if self.way != "auto":
            return self.way
        if len(queues) == 1 or min(map(len, queues.values())) >= self.rows:
            return "merged"
        short = how._replace(new_tokens=min(TRIAL_TOKENS, how.new_tokens))
        arm, queue = max(queues.items(), key=lambda item: (item[0] in self.names, len(item[1])))
        every = [job for queue in queues.values() for job in queue]
        merged = sum(-(-len(q) // self.rows) for q in queues.values()) * _seconds(
            self._merged(arm, queue[: self.rows], short)
        )
        beside = -(-len(every) // self.rows) * _seconds(self._beside(every[:: -(-len(every) // self.rows)], short))
        return "merged" if merged <= beside else "beside"

    def _merged(self, arm: str, jobs: Sequence[Job], how: Sampling) -> Iterator[list[Finished]]:
        self._merge(arm)
        yield from self._batches(self.model, jobs, None, how)

    def _beside(self, jobs: Sequence[Job], how: Sampling) -> Iterator[list[Finished]]:
        self._restore()
        if not self.names:
            yield from self._batches(self.model, jobs, None, how)
            return
        for parent, name, layer in self.places:
            setattr(parent, name, layer)
        try:
            yield from self._batches(self.peft, jobs, [self.names.get(job.arm, BASE) for job in jobs], how)
        finally:
            self._unwrap()

    def _batches(
        self, model: Any, jobs: Sequence[Job], names: list[str] | None, how: Sampling
    ) -> Iterator[list[Finished]]:
        for start in range(0, len(jobs), self.rows):
            part = jobs[start : start + self.rows]
            noise = uniforms(how.seed, [job.key for job in part], how.new_tokens)
            prompts, adapters = [job.prompt for job in part], names[start : start + self.rows] if names else None
            for done in generate(
                model,
                prompts,
                noise,
                temperature=how.temperature,
                end_tokens=self.ends,
                top_p=how.top_p,
                adapters=adapters,
            ):
                texts = [str(self.tokenizer.decode(c.tokens, skip_special_tokens=True)) for c in done]
                yield [
                    Finished(part[c.index].arm, part[c.index].key, Sample(t, len(c.tokens), c.finished))
                    for c, t in zip(done, texts, strict=True)
                ]

    def _logits(self, arm: str | None, text: str) -> Tensor:
        self._merge(arm)
        found = probe.logits(self.model, self.tokenizer, text)
        self._restore()
        return found

    @torch.no_grad()
    def _merge(self, arm: str | None) -> None:
        """The plain model with the weights of an arm; an arm without adapter is the base itself."""
        self._restore()
        name = self.names.get(arm or "")
        for _, _, layer in self.places:
            if name and name in layer.lora_A:
                weight: Any = layer.get_base_layer().weight
                self.kept.append((weight, weight.data))
                weight.data = weight.data + layer.get_delta_weight(name)

    def _restore(self) -> None:
        for weight, original in self.kept:
            weight.data = original
        self.kept = []

    def _unwrap(self) -> None:
        """Put the plain layers where PEFT's stood: merged weights need no wrapper."""
        for parent, name, layer in self.places:
            setattr(parent, name, layer.get_base_layer())


def _seconds(work: Iterator[Any]) -> float:
    began = time.perf_counter()
    for _ in work:
        pass
    return time.perf_counter() - began


def _cache_bytes(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] // 3 if device.type == "cuda" else CACHE_BYTES


def _bytes_a_token(model: Any) -> int:
    """Of the KV cache: 2 x layers x key-value heads x head size x bytes a number."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * size * model.dtype.itemsize
