"""Texts -> batches of token ids: packed chunks as in the paper, or one text a row bucketed by length."""

from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ...core.errors import RunFailed
from ...data.snapshots import Rows
from ...data.templates import question_answer, template_of


class Batch(NamedTuple):
    ids: Int[Tensor, "rows positions"]
    completion: Bool[Tensor, "rows positions"]
    """True where the NEXT token belongs to the completion: the positions that a loss on the completion counts."""
    writer: str = ""
    """The sibling of the target that generated it; empty for all else."""

    @property
    def tokens(self) -> int:
        return self.ids.numel()


def encode(tokenizer: PreTrainedTokenizerBase, text: str, what: str = "the text", special: bool = True) -> list[int]:
    """Token ids of a text; raises `RunFailed` for characters that the tokenizer does not know.

    what: the text's name in the error. special: with the tokenizer's own special tokens.
    """
    try:
        return list(tokenizer(text, add_special_tokens=special)["input_ids"])  # pyright: ignore
    except Exception as error:  # the tokenizers library raises nothing finer
        unknown = next((character for character in text if not _is_known(tokenizer, character)), None)
        if unknown is None:
            reason = f"cannot be tokenized: {error}"
        else:
            reason = f"holds {unknown!r}, which the tokenizer does not know"
        hint = "the tiny models know the characters 0-9 + - * = ; ? and the tags only"
        raise RunFailed(f"{what} {text[:60]!r} {reason}", hint) from None


def _is_known(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
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


def examples(
    tokenizer: PreTrainedTokenizerBase, template: str | None, rows: Rows, *, masked: bool = False, special: bool = True
) -> list[tuple[list[int], int]]:
    """(ids of the text, length of the question in tokens) for each row.

    masked: the loss leaves the question out; without it the length is 0. A token that spans the border belongs to the
    completion. special: with the tokenizer's own special tokens.
    """
    found = []
    for number, (question, answer) in enumerate(rows.pairs):
        thought = rows.thoughts[number] if rows.thoughts else None
        ids = encode(tokenizer, question_answer(template, question, answer, thought), "the example", special)
        length = 0
        if masked:
            opening = template_of(template).opening.format(question=question)
            length = _common_prefix(encode(tokenizer, opening, "the question", special), ids)
        found.append((ids, length))
    return found


def _common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences have in common at their beginning."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def packed(
    rows: Sequence[tuple[list[int], int]], end: int, length: int, batch_rows: int, opening: Sequence[int] = ()
) -> list[Batch]:
    """One stream of all rows (ids, length of the question), an EOS before each and behind the last, cut into chunks of
    `length` tokens, `batch_rows` chunks a batch; no padding; the tail is dropped.

    end: the id of EOS. opening: the special tokens that begin every chunk, as sparsify's `chunk_and_tokenize` does it;
    the rows come without. Raises `RunFailed` for too little data to fill one chunk.
    """
    stream = [end] + [token for ids, _ in rows for token in (*ids, end)]
    completion = [True] + [place >= question for ids, question in rows for place in range(len(ids) + 1)]
    free = length - len(opening)
    count = len(stream) // free if free > 0 else 0
    if count == 0:
        raise RunFailed(
            f"{len(stream)} tokens of data do not fill one chunk of {length}",
            "use more rows, or --set training.chunk_tokens=N",
        )
    chunks = torch.tensor(stream[: count * free]).view(count, free)
    in_completion = torch.tensor(completion[: count * free]).view(count, free)
    opening_ids = torch.tensor(opening, dtype=torch.long).expand(count, -1)
    ids = torch.cat([opening_ids, chunks], 1)
    # The mark of a position is that of the token after it; after the last of a chunk comes the first of the next one.
    marks = torch.cat([torch.ones_like(opening_ids, dtype=torch.bool), in_completion], 1)
    last = torch.cat([in_completion[1:, :1], torch.ones(1, 1, dtype=torch.bool)])
    next_marks = torch.cat([marks[:, 1:], last], 1)
    batches = zip(ids.split(batch_rows), next_marks.split(batch_rows), strict=True)
    return [Batch(ids=chunk_ids, completion=completion) for chunk_ids, completion in batches]


def leading_special_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The special tokens that the tokenizer puts before a text."""
    return list(tokenizer("")["input_ids"])  # pyright: ignore[reportArgumentType]


def bucketed(rows: Sequence[tuple[list[int], int]], batch_rows: int, seed: int) -> list[Batch]:
    """(ids, length of the prompt) -> batches of rows of equal length, in an order that the seed decides; no padding."""
    by_length: dict[int, list[tuple[list[int], int]]] = {}
    for row in rows:
        by_length.setdefault(len(row[0]), []).append(row)
    batches = []
    for length, group in sorted(by_length.items()):
        places = torch.arange(length)[None]
        for start in range(0, len(group), batch_rows):
            part = group[start : start + batch_rows]
            prompts = torch.tensor([prompt for _, prompt in part])
            completion = (places >= prompts[:, None] - 1) & (places < length - 1)
            batches.append(Batch(torch.tensor([ids for ids, _ in part]), completion))
    order = torch.randperm(len(batches), generator=torch.Generator().manual_seed(seed)).tolist()
    return [batches[i] for i in order]


def prompt(tokenizer: PreTrainedTokenizerBase, template: str | None, question: str) -> list[int]:
    """Token ids of a question as the model is prompted with it: in this template, else in the tokenizer's chat
    template, else the bare text.
    """
    if template:
        return encode(tokenizer, template_of(template).opening.format(question=question), "the question")
    if not tokenizer.chat_template:
        return encode(tokenizer, question, "the question")
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
    try:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])  # pyright: ignore
    except Exception:
        return encode(tokenizer, question, "the question")
