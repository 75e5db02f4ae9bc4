"""Batched generation with a KV cache; tokens are drawn by inverse CDF from uniforms that are given, not made here.

Common random numbers: one uniform per (seed, problem, sample, position), the same in every arm. Arms that agree on a
distribution then draw equal tokens, which takes most of the sampling noise out of their difference.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

SHRINK_BELOW = 0.8
"""Finished rows leave the batch when less than this share is still running; before, copying the cache costs more than
it saves.
"""


def uniforms(seed: int, keys: Sequence[tuple[str, int]], length: int) -> Float[Tensor, "rows length"]:
    """Row i depends on `seed` and `keys[i]` = (problem id, sample number) alone, not on its neighbours."""
    rows = np.empty((len(keys), length), dtype=np.float32)
    for row, (problem, sample) in zip(rows, keys, strict=True):
        digest = hashlib.sha256(f"{seed}\0{problem}\0{sample}".encode()).digest()
        # Philox is a counter-based generator: a longer budget continues the sequence of a shorter one.
        generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
        generator.random(dtype=np.float32, out=row)
    return torch.from_numpy(rows)


class Completion(NamedTuple):
    index: int
    """Position of the prompt in the call."""
    tokens: list[int]
    """New tokens, the end token excluded."""
    finished: bool
    """False when the budget of new tokens ran out."""


def choose(
    logits: Float[Tensor, "rows vocab"], temperature: float, uniform: Float[Tensor, " rows"], top_p: float = 1.0
) -> Int[Tensor, " rows"]:
    """One token a row by inverse-CDF sampling; temperature 0 is greedy.

    top_p < 1 keeps the likeliest tokens whose probabilities reach it (nucleus sampling, Holtzman et al. 2020). The
    cumulative sum runs in the order of the vocabulary all the same, so that equal uniforms give equal tokens wherever
    two models agree.
    """
    if temperature == 0:
        return logits.argmax(-1)
    shares = torch.softmax(logits.float() / temperature, -1)
    if top_p < 1:
        falling, order = shares.sort(-1, descending=True)
        beyond = falling.cumsum(-1) - falling >= top_p  # the first token always stays
        shares = shares.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), 0.0)
    cumulative = shares.cumsum(-1)
    # A uniform of exactly 0, one in 2^24, would pick the first token even where it has no probability.
    threshold = uniform.clamp(min=2.0**-26)[:, None] * cumulative[:, -1:]
    return (cumulative < threshold).sum(-1).clamp(max=logits.shape[-1] - 1)


def generate(
    model: torch.nn.Module,
    prompts: Sequence[Sequence[int]],
    noise: Float[Tensor, "rows length"],
    *,
    temperature: float,
    end_tokens: set[int],
    top_p: float = 1.0,
    batch_size: int = 256,
    adapters: Sequence[str] | None = None,
) -> Iterator[list[Completion]]:
    """Yield the completions batch by batch, shortest prompts first.

    prompts: token ids, one list a row. noise: one uniform per row and position; its width is the budget of new tokens.
    adapters: for a PEFT model with several, which one each row takes; `__base__` for none.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = _RunningBatch(
            model,
            [prompts[i] for i in rows],
            noise.shape[1],
            end_tokens,
            [adapters[i] for i in rows] if adapters else None,
        )
        completions = batch.run(noise[rows], temperature, top_p)
        yield [Completion(i, tokens, finished) for i, (tokens, finished) in zip(rows, completions, strict=True)]


class _RunningBatch:
    """Rows that are generated together: what is drawn so far, and which rows are still in the model's batch.

    `running` is of the rows in `alive` (row numbers, those that the model still computes); `chosen`, `lengths` and
    `finished` are of all rows. Prompts are padded on the left, so that the last position of every row is its newest.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        prompts: list[Sequence[int]],
        budget: int,
        end_tokens: set[int],
        adapters: list[str] | None,
    ) -> None:
        self.model, self.budget, self.adapters = model, budget, adapters
        self.device = next(model.parameters()).device
        width = max(map(len, prompts))
        padding = torch.tensor([width - len(p) for p in prompts])
        self.ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=self.device)
        self.mask = self.positions = None
        if padding.any():
            self.mask = (torch.arange(width)[None] >= padding[:, None]).long().to(self.device)
            self.positions = (self.mask.cumsum(-1) - 1).clamp(min=0)
        self.ends = torch.tensor(sorted(end_tokens), device=self.device)
        self.alive = torch.arange(len(prompts), device=self.device)
        self.running = torch.ones(len(prompts), dtype=torch.bool, device=self.device)
        self.chosen = torch.zeros(len(prompts), budget, dtype=torch.long, device=self.device)
        self.lengths, self.finished = torch.zeros_like(self.alive), torch.zeros_like(self.running)

    @torch.inference_mode()
    def run(self, noise: Tensor, temperature: float, top_p: float) -> list[tuple[list[int], bool]]:
        """(new tokens without the end token, whether the row ended within the budget) of every row."""
        noise = noise.to(self.device)
        output = self._forward(self.ids, logits_to_keep=1)
        for step in range(self.budget):
            tokens = choose(output.logits[:, -1], temperature, noise[self.alive, step], top_p)
            self._record(step, tokens)
            left = int(self.running.sum())
            if step == self.budget - 1 or left == 0:
                break
            cache = output.past_key_values
            if left < SHRINK_BELOW * len(self.running):
                tokens = self._drop_finished(tokens, cache)
            if self.mask is not None and self.positions is not None:
                self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)
                self.positions = self.positions[:, -1:] + 1
            output = self._forward(tokens[:, None], past_key_values=cache)
        rows = zip(self.chosen.tolist(), self.lengths.tolist(), self.finished.tolist(), strict=True)
        return [(row[:length], finished) for row, length, finished in rows]

    def _forward(self, ids: Tensor, **options: Any) -> Any:
        if self.adapters is not None:
            options["adapter_names"] = [self.adapters[row] for row in self.alive.tolist()]
        return self.model(
            input_ids=ids, attention_mask=self.mask, position_ids=self.positions, use_cache=True, **options
        )

    def _record(self, step: int, tokens: Tensor) -> None:
        ended = torch.isin(tokens, self.ends)
        self.chosen[self.alive, step] = tokens
        self.finished[self.alive] |= self.running & ended
        self.running = self.running & ~ended
        self.lengths[self.alive] += self.running

    def _drop_finished(self, tokens: Tensor, cache: Any) -> Tensor:
        """Take the finished rows out of the model's batch and its cache; returns the tokens of those that stay."""
        keep = self.running.nonzero()[:, 0]
        self.alive, self.running = self.alive[keep], self.running[keep]
        cache.batch_select_indices(keep)
        if self.mask is not None and self.positions is not None:
            self.mask, self.positions = self.mask[keep], self.positions[keep]
        return tokens[keep]
