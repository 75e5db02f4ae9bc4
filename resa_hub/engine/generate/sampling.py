"""Batched generation with a KV cache that drops finished rows, sampling by inverse CDF from given uniforms."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

SHRINK_BELOW = 0.8
"""Finished rows leave the batch when less than this share is still running: copying the cache costs more than it saves before."""


class Completion(NamedTuple):
    index: int
    """Position of the prompt in the call."""
    tokens: list[int]
    """New tokens, the end token excluded."""
    finished: bool
    """False when the budget of new tokens ran out."""


def choose(logits: Float[Tensor, "rows vocab"], temperature: float, uniform: Float[Tensor, " rows"]) -> Int[Tensor, " rows"]:
    """Inverse-CDF sampling: equal uniforms give equal tokens wherever two models agree. Temperature 0 is greedy."""
    if temperature == 0:
        return logits.argmax(-1)
    cumulative = torch.softmax(logits.float() / temperature, -1).cumsum(-1)
    return (cumulative < uniform[:, None] * cumulative[:, -1:]).sum(-1).clamp(max=logits.shape[-1] - 1)


def generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    noise: Float[Tensor, "rows length"],
    *,
    temperature: float,
    end_tokens: set[int],
    batch_size: int = 256,
) -> Iterator[list[Completion]]:
    """Yield the completions batch by batch, shortest prompts first.

    prompts: token ids, one list a row. noise: one uniform per row and position; its width is the budget of new tokens.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        texts = _batch(model, [prompts[i] for i in rows], noise[rows], temperature, end_tokens)
        yield [Completion(i, tokens, finished) for i, (tokens, finished) in zip(rows, texts, strict=True)]


@torch.inference_mode()
def _batch(model: PreTrainedModel, prompts: list[Sequence[int]], noise: Tensor, temperature: float, end_tokens: set[int]) -> list[tuple[list[int], bool]]:
    device = model.device
    width = max(map(len, prompts))
    padding = torch.tensor([width - len(p) for p in prompts])
    ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=device)
    mask = positions = None
    if padding.any():
        mask = (torch.arange(width)[None] >= padding[:, None]).long().to(device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
    ends = torch.tensor(sorted(end_tokens), device=device)
    noise = noise.to(device)
    alive = torch.arange(len(prompts), device=device)
    chosen: list[list[int]] = [[] for _ in prompts]
    finished = [False] * len(prompts)
    output = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, logits_to_keep=1)
    for step in range(noise.shape[1]):
        tokens = choose(output.logits[:, -1], temperature, noise[alive, step])
        running = ~torch.isin(tokens, ends)
        for row, token in zip(alive.tolist(), tokens.tolist(), strict=True):
            if finished[row]:
                continue
            if token in end_tokens:
                finished[row] = True
            else:
                chosen[row].append(token)
        running &= torch.tensor([not finished[row] for row in alive.tolist()], device=device)
        if step == noise.shape[1] - 1 or not running.any():
            break
        cache = output.past_key_values
        if running.float().mean() < SHRINK_BELOW:
            keep = running.nonzero()[:, 0]
            alive, tokens = alive[keep], tokens[keep]
            cache.batch_select_indices(keep)
            if mask is not None and positions is not None:
                mask, positions = mask[keep], positions[keep]
        if mask is not None and positions is not None:
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            positions = positions[:, -1:] + 1
        output = model(input_ids=tokens[:, None], attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True)
    return list(zip(chosen, finished, strict=True))
