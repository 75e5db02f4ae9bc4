"""Does a benchmark ask what an adapter's data already held? Equal questions, and questions that share 13 words in a row.

13-grams are the measure of Brown et al. (2020, arXiv 2005.14165, appendix C). Questions shorter than 13 words are compared as wholes only. Equal means equal
words and signs, whatever the case, spacing, or marks of format.
"""

import re
from collections.abc import Iterable, Sequence

import msgspec

WORDS = 13
TOKEN = re.compile(r"\w+|[^\w\s]")
FORMAT = frozenset("$\\{}.,;:!?\"'`")


class Overlap(msgspec.Struct, frozen=True):
    """Of one data set with the problems of an evaluation."""

    data: str
    rows: int
    problems: int
    exact: list[str]
    """Ids of problems whose question is a row of the data."""
    ngram: list[str]
    """Ids of problems that share 13 words in a row with a row of the data; those in `exact` that are long enough are among them."""
    reason: str = ""
    """Why it was not measured; empty when it was."""

    @property
    def sentence(self) -> str:
        if self.reason:
            return f"overlap with {self.data}: not measured, {self.reason}"
        found = set(self.exact) | set(self.ngram)
        return f"overlap with {self.data}: {len(self.exact)} of {self.problems} problems are in it, {len(found)} share {WORDS} words in a row or all of theirs"


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
    return Overlap(data, rows, len(order), [id_ for id_ in order if id_ in exact], [id_ for id_ in order if id_ in ngram])


def grams(text: str) -> Iterable[tuple[str, ...]]:
    found = words(text)
    return (tuple(found[start : start + WORDS]) for start in range(len(found) - WORDS + 1))
