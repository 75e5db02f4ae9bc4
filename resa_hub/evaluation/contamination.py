"""Choosing and judging kept apart: was an adapter chosen on the problems it is judged on, and did its data hold
them?
"""

import re
from collections.abc import Iterable, Sequence

from ..adapter.results import WORDS, Overlap, load_evaluations
from ..adapter.store import Adapter
from ..config.recipe import Data
from ..config.registry import Registry
from ..core.errors import HubError
from ..data import datasets
from .benchmarks.base import Problem

TOKEN = re.compile(r"\w+|[^\w\s]")
FORMAT = frozenset("$\\{}.,;:!?\"'`")


def tokens(text: str) -> tuple[str, ...]:
    return tuple(token for token in TOKEN.findall(text.casefold()) if token not in FORMAT)


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())


def measure(data: str, problems: Sequence[tuple[str, str]], texts: Iterable[str]) -> Overlap:
    """problems: (id, question as it is published). texts: the questions of the data, read once."""
    whole: dict[tuple[str, ...], list[str]] = {}
    parts: dict[tuple[str, ...], set[str]] = {}
    for id_, question in problems:
        whole.setdefault(tokens(question), []).append(id_)
        for gram in grams(question):
            parts.setdefault(gram, set()).add(id_)
    exact: set[str] = set()
    ngram: set[str] = set()
    rows = 0
    for text in texts:
        rows += 1
        exact.update(whole.get(tokens(text), ()))
        if parts:
            for gram in grams(text):
                ngram.update(parts.get(gram, ()))
    order = [id_ for id_, _ in problems]
    return Overlap(
        data, rows, len(order), [id_ for id_ in order if id_ in exact], [id_ for id_ in order if id_ in ngram]
    )


def grams(text: str) -> Iterable[tuple[str, ...]]:
    found = words(text)
    return (tuple(found[start : start + WORDS]) for start in range(len(found) - WORDS + 1))


CHOOSING = "choosing"
"""Purpose of an evaluation that compared layers, checkpoints or settings."""


def tuned_on(adapter: Adapter, benchmark: str, split: str, splits: Sequence[str], draw: int = 0) -> tuple[str, bool]:
    """(what was chosen on problems of this evaluation, as a sentence; whether it was this very split). Empty when
    nothing was.

    Evaluations that were made for choosing lie beside the adapter with that purpose. Splits `dev` and `test` share no
    problem, `full` holds both; another draw of a generated benchmark, which has no `full`, holds other problems.
    """
    for found in load_evaluations(adapter):
        if found.get("purpose") != CHOOSING or found.get("benchmark") != benchmark:
            continue
        if "full" not in splits and found.get("draw", 0) != draw:
            continue
        before = str(found.get("split"))
        if before == split:
            free = next((name for name in splits if name not in (split, "full")), None)
            return (
                f"{adapter.manifest.reference} was chosen on these very problems ({benchmark}, {split}): judge "
                f"it on --split {free or 'another'}",
                True,
            )
        if "full" in (before, split):
            return (
                f"{adapter.manifest.reference} was chosen on a part of these problems ({benchmark}, {before}): "
                "--split test has none of them",
                False,
            )
    return "", False


def overlaps(adapter: Adapter, problems: Sequence[Problem], names: Registry) -> list[Overlap]:
    """Of each data set that the adapter was made with, read again; one that cannot be read any more is named with the
    reason.
    """
    recipe, found = adapter.manifest.recipe, []
    asked = [(problem.id, problem.said or problem.question) for problem in problems]
    wanted: dict[str, Data] = {str(data): data for data in (recipe.trigger, recipe.elicit)} if recipe else {}
    for data in wanted.values():
        try:
            rows = datasets.load(data, names.dataset(data.name))
            found.append(measure(data.name, asked, (question for question, _ in rows.pairs)))
        except HubError as error:
            found.append(Overlap(data.name, 0, len(asked), [], [], error.message))
    return found
