"""The embedded engine: transformers with batched generation; the base is loaded once, arms are switched by exchanging
weights.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
from .sampling import generate, uniforms

MOST_ROWS = 256
CACHE_BYTES = 4 << 30
"""What the KV cache of one batch may take; of a GPU a third of what is free."""
TRIAL_TOKENS = 4
"""New tokens of the batches on which the two modes are timed."""
BASE = "__base__"
"""PEFT's name for no adapter."""


class WrappedLayer(NamedTuple):
    """A linear layer that PEFT has wrapped, and where it stands."""

    parent: nn.Module
    name: str
    """Attribute of the parent."""
    wrapper: Any
    """PEFT's LoraLayer."""

    def wrap(self) -> None:
        setattr(self.parent, self.name, self.wrapper)

    def unwrap(self) -> None:
        setattr(self.parent, self.name, self.wrapper.get_base_layer())


class TransformersEngine:
    """Arms run in one of two modes.

    `merged`: one after another, each merged into the weights, the originals kept aside, so that base comes back bit for
    bit. `beside`: PEFT runs the adapters beside the weights, rows of all arms mixed in one batch. In float32 the faster
    one for the load at hand is taken, by timing both where arms are too small to fill a batch. In half precision it is
    `beside`: merging would round small adapters away.
    """

    def __init__(self, base: Files, arms: Mapping[str, Path | None], config: EngineConfig) -> None:
        self.model = load_base(base, config.dtype)
        self.tokenizer = load_tokenizer(base)
        self.end_tokens = end_tokens(self.model, self.tokenizer)
        self.mode = config.lora if config.dtype == "float32" or config.lora != "auto" else "beside"
        self.about = {
            "name": "transformers",
            "version": transformers.__version__,
            "device": self.model.device.type,
            "dtype": config.dtype,
        }
        cache_rows = _cache_bytes(self.model.device) // (config.longest * _bytes_per_token(self.model))
        self.batch_rows = max(1, min(MOST_ROWS, cache_rows))
        folders = {arm: folder for arm, folder in arms.items() if folder}
        # Names of arms hold characters that PEFT's module names may not.
        self.adapter_names = {arm: f"arm{number}" for number, arm in enumerate(arms) if arm in folders}
        self.peft: Any = self.model
        for arm, name in self.adapter_names.items():
            self.peft = load_lora(self.peft, folders[arm], name)
        self.peft.eval()
        self.wrapped_layers = _wrapped_layers(self.model)
        self.original_weights: list[tuple[nn.Parameter, Tensor]] = []
        self._unwrap()

    def check(self, texts: Mapping[str, Sequence[str]]) -> set[str]:
        # Arms often have equal texts; each arm is merged once for all of its own.
        listed = {tuple(texts.get(arm, ())) for arm in self.adapter_names} - {()}
        base = {each: self._logits(None, each) for each in listed} | {(): []}
        unchanged = set()
        for arm in self.adapter_names:
            own = tuple(texts.get(arm, ()))
            if not own or all(map(torch.equal, self._logits(arm, own), base[own])):
                unchanged.add(arm)
        if not all(all(map(torch.equal, self._logits(None, each), base[each])) for each in listed):
            raise RunFailed("the base model has changed while adapters were on it", BASE_CHANGED)
        return unchanged

    def run(self, jobs: Sequence[Job], sampling: Sampling) -> Iterator[list[Finished]]:
        jobs = sorted(jobs, key=lambda job: len(job.prompt))
        by_arm: dict[str, list[Job]] = {}
        for job in jobs:
            by_arm.setdefault(job.arm, []).append(job)
        if self._choose_mode(by_arm, sampling) == "merged":
            for arm, queue in by_arm.items():
                yield from self._run_merged(arm, queue, sampling)
        else:
            yield from self._run_beside(jobs, sampling)

    def close(self) -> None:
        self._restore()

    def _choose_mode(self, by_arm: Mapping[str, list[Job]], sampling: Sampling) -> str:
        """Arms that fill batches of their own gain nothing by mixing: the same base work, and the adapters' on top.
        Smaller ones are timed, on short batches.
        """
        if self.mode != "auto":
            return self.mode
        if len(by_arm) == 1 or min(map(len, by_arm.values())) >= self.batch_rows:
            return "merged"
        short = sampling._replace(new_tokens=min(TRIAL_TOKENS, sampling.new_tokens))
        # The largest queue, one with an adapter where there is any: merging is part of the cost.
        arm, queue = max(by_arm.items(), key=lambda item: (item[0] in self.adapter_names, len(item[1])))
        merged_batches = sum(self._batch_count(queue) for queue in by_arm.values())
        merged = merged_batches * _seconds(self._run_merged(arm, queue[: self.batch_rows], short))
        every = [job for queue in by_arm.values() for job in queue]
        mixed_batches = self._batch_count(every)
        beside = mixed_batches * _seconds(self._run_beside(every[::mixed_batches], short))
        return "merged" if merged <= beside else "beside"

    def _batch_count(self, jobs: Sequence[Job]) -> int:
        return -(-len(jobs) // self.batch_rows)

    def _run_merged(self, arm: str, jobs: Sequence[Job], sampling: Sampling) -> Iterator[list[Finished]]:
        self._merge(arm)
        yield from self._batches(self.model, jobs, None, sampling)

    def _run_beside(self, jobs: Sequence[Job], sampling: Sampling) -> Iterator[list[Finished]]:
        self._restore()
        if not self.adapter_names:
            yield from self._batches(self.model, jobs, None, sampling)
            return
        for layer in self.wrapped_layers:
            layer.wrap()
        try:
            names = [self.adapter_names.get(job.arm, BASE) for job in jobs]
            yield from self._batches(self.peft, jobs, names, sampling)
        finally:
            self._unwrap()

    def _batches(
        self, model: Any, jobs: Sequence[Job], names: list[str] | None, sampling: Sampling
    ) -> Iterator[list[Finished]]:
        """names: the adapter of each job, for a PEFT model."""
        for start in range(0, len(jobs), self.batch_rows):
            part = jobs[start : start + self.batch_rows]
            completions = generate(
                model,
                [job.prompt for job in part],
                uniforms(sampling.seed, [job.key for job in part], sampling.new_tokens),
                temperature=sampling.temperature,
                end_tokens=self.end_tokens,
                top_p=sampling.top_p,
                adapters=names[start : start + self.batch_rows] if names else None,
            )
            for batch in completions:
                yield [
                    Finished(part[c.index].arm, part[c.index].key, self._sample(c.tokens, c.finished)) for c in batch
                ]

    def _sample(self, tokens: list[int], finished: bool) -> Sample:
        return Sample(str(self.tokenizer.decode(tokens, skip_special_tokens=True)), len(tokens), finished)

    def _logits(self, arm: str | None, texts: Sequence[str]) -> list[Tensor]:
        self._merge(arm)
        logits = probe.logits(self.model, self.tokenizer, texts)
        self._restore()
        return logits

    @torch.no_grad()
    def _merge(self, arm: str | None) -> None:
        """The plain model with the weights of an arm; an arm without adapter is the base itself."""
        self._restore()
        name = self.adapter_names.get(arm or "")
        for layer in self.wrapped_layers:
            if name and name in layer.wrapper.lora_A:
                weight: Any = layer.wrapper.get_base_layer().weight
                self.original_weights.append((weight, weight.data))
                # A new tensor, not `+=`: subtracting the adapter again would not give the same bits.
                weight.data = weight.data + layer.wrapper.get_delta_weight(name)

    def _restore(self) -> None:
        for weight, original in self.original_weights:
            weight.data = original
        self.original_weights = []

    def _unwrap(self) -> None:
        """Put the plain layers where PEFT's stood: merged weights need no wrapper."""
        for layer in self.wrapped_layers:
            layer.unwrap()


def _wrapped_layers(model: nn.Module) -> list[WrappedLayer]:
    layers = []
    for path, module in model.named_modules():
        if isinstance(module, LoraLayer):
            parent, _, name = path.rpartition(".")
            layers.append(WrappedLayer(model.get_submodule(parent), name, module))
    return layers


def _seconds(work: Iterator[Any]) -> float:
    began = time.perf_counter()
    for _ in work:
        pass
    return time.perf_counter() - began


def _cache_bytes(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] // 3 if device.type == "cuda" else CACHE_BYTES


def _bytes_per_token(model: Any) -> int:
    """Of the KV cache: 2 x layers x key-value heads x head size x bytes a number."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * size * model.dtype.itemsize
