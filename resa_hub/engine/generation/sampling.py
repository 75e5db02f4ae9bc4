"""Batched generation with a KV cache that drops finished rows, sampling by inverse CDF from given uniforms."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

SHRINK_BELOW = 0.8
"""Finished rows leave the batch when less than this share is still running: copying the cache costs more than it saves
before.
"""


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
    """Inverse-CDF sampling: equal uniforms give equal tokens wherever two models agree. Temperature 0 is greedy.

    top_p < 1 keeps the likeliest tokens whose probabilities reach it (nucleus sampling, Holtzman et al. 2020), the
    order of the vocabulary stays.
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
    return (
        (cumulative < uniform.clamp(min=2.0**-26)[:, None] * cumulative[:, -1:]).sum(-1).clamp(max=logits.shape[-1] - 1)
    )


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
        names = [adapters[i] for i in rows] if adapters else None
        texts = _batch(model, [prompts[i] for i in rows], noise[rows], temperature, top_p, end_tokens, names)
        yield [Completion(i, tokens, finished) for i, (tokens, finished) in zip(rows, texts, strict=True)]


@torch.inference_mode()
def _batch(
    model: torch.nn.Module,
    prompts: list[Sequence[int]],
    noise: Tensor,
    temperature: float,
    top_p: float,
    end_tokens: set[int],
    names: list[str] | None,
) -> list[tuple[list[int], bool]]:
    device = next(model.parameters()).device
    width, budget = max(map(len, prompts)), noise.shape[1]
    padding = torch.tensor([width - len(p) for p in prompts])
    ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=device)
    mask = positions = None
    if padding.any():
        mask = (torch.arange(width)[None] >= padding[:, None]).long().to(device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
    ends = torch.tensor(sorted(end_tokens), device=device)
    noise = noise.to(device)
    alive = torch.arange(len(prompts), device=device)
    running = torch.ones(len(prompts), dtype=torch.bool, device=device)  # of the rows in `alive`
    chosen = torch.zeros(len(prompts), budget, dtype=torch.long, device=device)
    lengths, finished = torch.zeros_like(alive), torch.zeros_like(running)
    chosen_adapters = {} if names is None else {"adapter_names": names}
    output = model(
        input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, logits_to_keep=1, **chosen_adapters
    )
    for step in range(budget):
        tokens = choose(output.logits[:, -1], temperature, noise[alive, step], top_p)
        ended = torch.isin(tokens, ends)
        chosen[alive, step] = tokens
        finished[alive] |= running & ended
        running = running & ~ended
        lengths[alive] += running
        left = int(running.sum())
        if step == budget - 1 or left == 0:
            break
        cache = output.past_key_values
        if left < SHRINK_BELOW * len(running):
            keep = running.nonzero()[:, 0]
            alive, tokens, running = alive[keep], tokens[keep], running[keep]
            cache.batch_select_indices(keep)
            if mask is not None and positions is not None:
                mask, positions = mask[keep], positions[keep]
            if names is not None:
                chosen_adapters = {"adapter_names": [names[row] for row in alive.tolist()]}
        if mask is not None and positions is not None:
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            positions = positions[:, -1:] + 1
        output = model(
            input_ids=tokens[:, None],
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            **chosen_adapters,
        )
    return [
        (row[:length], end)
        for row, length, end in zip(chosen.tolist(), lengths.tolist(), finished.tolist(), strict=True)
    ]
