"""How many tokens a data set has: counted where it and the tokenizer are at hand, else estimated."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from ..config.methods import METHODS
from ..config.recipe import Data, Training
from ..config.refs import is_path
from ..config.schema import Dataset
from ..core.errors import RunFailed
from ..core.estimates import DataSize
from ..data import datasets, tiny
from ..data.snapshots import Rows
from ..data.templates import question_answer, template_of
from ..data.token_counts import counts
from .plan import Plan

ROW_TOKENS, COT_TOKENS = 180, 400
"""Of an example in the R1 template: as STILL's, see the registry. The second is a guess at a worked solution."""
COUNTED = "counted"
CHARACTERS = 4
"""A token, where there is no tokenizer to ask."""


def data_size(data: Data, entry: Dataset, plan: Plan) -> DataSize | None:
    """None where not even the rows are known."""
    training = plan.recipe.training
    if entry.id == datasets.TINY or datasets.is_local(entry):
        texts = datasets.load(data, entry)
        lengths = _lengths(texts, plan)
        _check_chunks(lengths, plan)
        size = _counted(lengths, training)
        return msgspec.structs.replace(size, basis=f"{size.basis}; {texts.left_out}") if texts.lacking else size
    rows = min(data.rows or entry.rows or 0, entry.rows or data.rows or 0)
    if not rows:
        return None
    question = entry.row_tokens or ROW_TOKENS
    solution = f" and {COT_TOKENS} of solution, a guess" if data.cot else ""
    length = question + COT_TOKENS * data.cot
    tokens = rows * min(length, training.max_tokens or length)
    basis = f"estimate: {rows:,} rows, {question} tokens a row{solution}"
    return _packed(rows, tokens, training, basis, float(question))


class _Lengths(NamedTuple):
    """Tokens of each example and of each question, EOS counted."""

    examples: list[int]
    questions: list[int]
    basis: str


def _check_chunks(lengths: _Lengths, plan: Plan) -> None:
    """Raise `RunFailed` where the texts do not fill one chunk to train on."""
    tokens, chunk = sum(lengths.examples), plan.recipe.training.chunk_tokens
    if chunk and tokens < chunk and lengths.basis == COUNTED and METHODS[plan.recipe.method].trains_on == "texts":
        raise RunFailed(
            f"{tokens} tokens of data do not fill one chunk of {chunk}",
            "use more rows, or --set training.chunk_tokens=N",
        )


def _counted(lengths: _Lengths, training: Training) -> DataSize:
    examples = [min(length, training.max_tokens or length) for length in lengths.examples]
    question = sum(lengths.questions) / len(lengths.questions)
    if lengths.basis != COUNTED or training.chunk_tokens:
        return _packed(len(examples), sum(examples), training, lengths.basis, question)
    # Unpacked examples are batched with those of their own length.
    buckets = [examples.count(length) for length in set(examples)]
    batches = sum(math.ceil(count / training.batch_rows) for count in buckets)
    return DataSize(len(examples), sum(examples), batches, lengths.basis, question)


def _packed(rows: int, tokens: int, training: Training, basis: str, question: float) -> DataSize:
    if training.chunk_tokens:
        chunks = max(1, tokens // training.chunk_tokens)
        return DataSize(rows, chunks * training.chunk_tokens, math.ceil(chunks / training.batch_rows), basis, question)
    return DataSize(rows, tokens, math.ceil(rows / training.batch_rows), basis, question)


def _lengths(rows: Rows, plan: Plan) -> _Lengths:
    thoughts: Sequence[str | None] = rows.thoughts or [None] * len(rows.pairs)
    examples = [
        question_answer(plan.template, question, answer, thought)
        for (question, answer), thought in zip(rows.pairs, thoughts, strict=True)
    ]
    questions = [template_of(plan.template).opening.format(question=question) for question, _ in rows.pairs]
    base = plan.target.base
    folder = tiny.locate(base.id) or (Path(base.id).expanduser() if is_path(base.id) else None)
    counted = counts(folder, examples, "the example") if folder else None
    if folder and counted is not None:
        return _Lengths([each + 1 for each in counted], counts(folder, questions, "the question") or [], COUNTED)
    return _Lengths(
        [len(text) // CHARACTERS + 1 for text in examples],
        [len(text) // CHARACTERS for text in questions],
        "estimate: the texts are here, four characters a token",
    )
