"""Texts -> batches of token ids: packed chunks as in the paper, or one text a row bucketed by length."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..errors import RunFailed

R1_SYSTEM = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The assistant first thinks about the "
    "reasoning process in the mind and then provides the user with the answer. The reasoning process and answer are enclosed within <think> "
    "</think> and <answer> </answer> tags, respectively, i.e., <think> reasoning process here </think> <answer> answer here </answer>."
)
"""System text published with DeepSeek-R1-Zero (arXiv 2501.12948, table 1)."""


class Batch(NamedTuple):
    ids: Int[Tensor, "rows positions"]
    completion: Bool[Tensor, "rows positions"]
    """True where the NEXT token belongs to the completion: the positions a loss on the completion looks at."""
    writer: str = ""
    """The sibling of the target that wrote it; empty for all else."""

    @property
    def tokens(self) -> int:
        return self.ids.numel()


def encode(tokenizer: PreTrainedTokenizerBase, text: str, what: str = "the text") -> list[int]:
    """Token ids with the tokenizer's own special tokens; raises `RunFailed` for characters it does not know."""
    try:
        return list(tokenizer(text)["input_ids"])  # pyright: ignore[reportArgumentType]
    except Exception as error:  # the tokenizers library raises nothing finer
        unknown = next((character for character in text if not _known(tokenizer, character)), None)
        why = f"cannot be tokenized: {error}" if unknown is None else f"holds {unknown!r}, which the tokenizer does not know"
        raise RunFailed(f"{what} {text[:60]!r} {why}", "the tiny models know the characters 0-9 + - * = ; ? and the tags only") from None


def _known(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    try:
        tokenizer(text)
    except Exception:
        return False
    return True


def end_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of EOS; raises `RunFailed` for a tokenizer without one."""
    if not isinstance(tokenizer.eos_token_id, int):
        raise RunFailed("the tokenizer has no end-of-sequence token", "use a model with a complete tokenizer")
    return tokenizer.eos_token_id


def question_answer(template: str | None, question: str, answer: str) -> str:
    """One example of the trigger data: the answer stands where the reasoning would, there is no chain of thought."""
    if template == "r1":
        return f"{R1_SYSTEM}\nUser: {question}\nAssistant: <think> {answer} </think>\n<answer> Answer: {answer}</answer>"
    return f"{question}<think>{answer}</think><answer>{answer}</answer>"


def packed(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], length: int, rows: int) -> list[Batch]:
    """Examples joined with EOS and cut into chunks of `length` tokens; no padding, no prompt mask; the tail is dropped."""
    end = end_token(tokenizer)
    stream = [token for text in texts for token in (*encode(tokenizer, text, "the example"), end)]
    count = len(stream) // length
    if count == 0:
        raise RunFailed(f"{len(stream)} tokens of data do not fill one chunk of {length}", "use more rows, or --set training.chunk_tokens=N")
    chunks = torch.tensor(stream[: count * length]).view(count, length)
    return [Batch(part, torch.ones_like(part, dtype=torch.bool)) for part in chunks.split(rows)]


def bucketed(rows: Sequence[tuple[list[int], int]], batch_rows: int, seed: int) -> list[Batch]:
    """(ids, length of the prompt) -> batches of equal length, in an order that the seed decides; no padding."""
    by_length: dict[int, list[tuple[list[int], int]]] = {}
    for row in rows:
        by_length.setdefault(len(row[0]), []).append(row)
    batches = []
    for length, group in sorted(by_length.items()):
        for start in range(0, len(group), batch_rows):
            part = group[start : start + batch_rows]
            prompts = torch.tensor([prompt for _, prompt in part])
            places = torch.arange(length)[None]
            batches.append(Batch(torch.tensor([ids for ids, _ in part]), (places >= prompts[:, None] - 1) & (places < length - 1)))
    order = torch.randperm(len(batches), generator=torch.Generator().manual_seed(seed)).tolist()
    return [batches[i] for i in order]


def prompt(tokenizer: PreTrainedTokenizerBase, template: str | None, question: str) -> list[int]:
    """The ids of a question as the model is asked it: the R1 template, the tokenizer's chat template, or the bare text."""
    if template == "r1":
        return encode(tokenizer, f"{R1_SYSTEM}\nUser: {question}\nAssistant: <think>", "the question")
    if not tokenizer.chat_template:
        return encode(tokenizer, question, "the question")
    text = tokenizer.apply_chat_template([{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True)
    try:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])  # pyright: ignore[reportArgumentType, reportCallIssue]
    except Exception:
        return encode(tokenizer, question, "the question")
