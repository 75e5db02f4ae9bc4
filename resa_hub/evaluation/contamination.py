"""Contamination of an evaluation: was the adapter selected on its problems, and did the adapter's data hold them?"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..adapter.recorded import load_evaluations
from ..adapter.results import MODEL_SELECTION, NGRAM, Overlap
from ..adapter.store import Adapter
from ..config.recipe import Data
from ..config.registry import Registry
from ..core.errors import HubError
from ..data import datasets
from .benchmarks.base import Problem

TOKEN = re.compile(r"\w+|[^\w\s]")
FORMATTING = frozenset("$\\{}.,;:!?\"'`")
"""Tokens of LaTeX and of punctuation: one question is published with and without them."""


def tokens(text: str) -> tuple[str, ...]:
    """Words and symbols in lower case, without formatting: equal for one question in two notations."""
    return tuple(token for token in TOKEN.findall(text.casefold()) if token not in FORMATTING)


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())


def ngrams(text: str) -> Iterable[tuple[str, ...]]:
    """Every `NGRAM` words in a row."""
    found = words(text)
    return (tuple(found[start : start + NGRAM]) for start in range(len(found) - NGRAM + 1))


def measure_overlap(data: str, problems: Sequence[tuple[str, str]], questions: Iterable[str]) -> Overlap:
    """Problems that equal a question of a data set, and problems that share an n-gram with one.

    data: name of the data set. problems: (id, question as it is published). questions: of the data set, read once.
    """
    by_tokens: dict[tuple[str, ...], list[str]] = {}
    by_ngram: dict[tuple[str, ...], set[str]] = {}
    for problem_id, text in problems:
        by_tokens.setdefault(tokens(text), []).append(problem_id)
        for ngram in ngrams(text):
            by_ngram.setdefault(ngram, set()).add(problem_id)
    equal: set[str] = set()
    sharing: set[str] = set()
    rows = 0
    for text in questions:
        rows += 1
        equal.update(by_tokens.get(tokens(text), ()))
        if by_ngram:
            for ngram in ngrams(text):
                sharing.update(by_ngram.get(ngram, ()))
    ids = [problem_id for problem_id, _ in problems]
    exact = [problem_id for problem_id in ids if problem_id in equal]
    return Overlap(data, rows, len(ids), exact, [problem_id for problem_id in ids if problem_id in sharing])


def data_overlaps(adapter: Adapter, problems: Sequence[Problem], registry: Registry) -> list[Overlap]:
    """The overlap with each data set of the adapter's recipe, read again; one that cannot be read any more is named
    with the reason.
    """
    recipe = adapter.manifest.recipe
    if recipe is None:
        return []
    published = [(problem.id, problem.published or problem.question) for problem in problems]
    distinct: dict[str, Data] = {str(data): data for data in (recipe.trigger, recipe.elicit)}
    overlaps = []
    for data in distinct.values():
        try:
            rows = datasets.load(data, registry.dataset(data.name))
            overlaps.append(measure_overlap(data.name, published, (question for question, _ in rows.pairs)))
        except HubError as error:
            overlaps.append(Overlap(data.name, 0, len(published), [], [], error.message))
    return overlaps


class PriorSelection(NamedTuple):
    """An adapter was selected on problems that it is now judged on."""

    sentence: str
    same_split: bool
    """On all of the problems, not only on a part of them."""


def prior_selection(
    adapter: Adapter, benchmark: str, split: str, splits: Sequence[str], problem_seed: int = 0
) -> PriorSelection | None:
    """Whether an evaluation beside the adapter selected it on problems of this one. splits: all of the benchmark."""
    for evaluation in load_evaluations(adapter):
        if evaluation.get("purpose") != MODEL_SELECTION or evaluation.get("benchmark") != benchmark:
            continue
        # Only a generator has no split `full`: with another seed it gives other problems.
        if "full" not in splits and evaluation.get("problem_seed", 0) != problem_seed:
            continue
        before = str(evaluation.get("split"))
        reference = adapter.manifest.reference
        if before == split:
            unused = next((name for name in splits if name not in (split, "full")), "another")
            sentence = (
                f"{reference} was chosen on these very problems ({benchmark}, {split}): judge it on --split {unused}"
            )
            return PriorSelection(sentence, same_split=True)
        if "full" in (before, split):
            sentence = (
                f"{reference} was chosen on a part of these problems ({benchmark}, {before}): "
                "--split test has none of them"
            )
            return PriorSelection(sentence, same_split=False)
        # Two other splits share no problem.
    return None
