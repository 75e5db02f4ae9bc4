"""How well a model adds when it is made to take every step: what of a gain is habit, and what is arithmetic.

The operations are written for it, one a step; it writes only the results, two digits each, the likeliest ones.
"""

from itertools import groupby
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from resa_hub.data.snapshots import Files
from resa_hub.engine.model.loading import load_base, load_tokenizer
from resa_hub.engine.model.lora import merge
from resa_hub.engine.model.tokens import prompt

from .task import OPERATIONS, Problem

DIGITS = "0123456789"


def accuracy(base: Files, adapter: Path | None, problems: list[Problem]) -> dict[str, float]:
    """Shares of right answers and of right single steps (given the model's own result before)."""
    model, tokenizer = load_base(base), load_tokenizer(base)
    model = merge(model, adapter) if adapter else model
    texts = [str(problem.values[0]) for problem in problems]
    right = 0
    for step in range(OPERATIONS):
        before = [int(text.rpartition("=")[2]) for text in texts]
        texts = [f"{text}{problem.part(step, step + 1)}=" for text, problem in zip(texts, problems, strict=True)]
        for _ in range(2):
            texts = _with_next_digit(model, tokenizer, problems, texts)
        results = [int(text.rpartition("=")[2]) for text in texts]
        moves = [problem.values[step + 1] - problem.values[step] for problem in problems]
        right += sum(a + move == b for a, move, b in zip(before, moves, results, strict=True))
    answers = sum(text.rpartition("=")[2] == problem.answer for text, problem in zip(texts, problems, strict=True))
    return {"answer": answers / len(problems), "step": right / (OPERATIONS * len(problems))}


@torch.inference_mode()
def _with_next_digit(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, problems: list[Problem], texts: list[str]
) -> list[str]:
    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])  # pyright: ignore[reportArgumentType]

    digits = torch.tensor([ids(digit)[0] for digit in DIGITS])
    rows = [
        (prompt(tokenizer, None, problem.question) + ids(text), place)
        for place, (problem, text) in enumerate(zip(problems, texts, strict=True))
    ]
    found = dict.fromkeys(range(len(rows)), "")
    for _, group in groupby(sorted(rows, key=lambda row: len(row[0])), key=lambda row: len(row[0])):
        part = list(group)
        logits = model(input_ids=torch.tensor([row for row, _ in part]), logits_to_keep=1).logits[:, -1, digits]
        found |= {place: DIGITS[choice] for (_, place), choice in zip(part, logits.argmax(-1).tolist(), strict=True)}
    return [text + found[place] for place, text in enumerate(texts)]
