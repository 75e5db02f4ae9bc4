"""What the samples of an evaluation tell beyond its scores: flips against base, lengths, format, and the texts
themselves.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..core.errors import Usage
from .data import ArmSeen, Browser, Seen, plain

BINS = 24
MOST_TEXT = 16_000_000
"""Characters that a page embeds at most."""
RIGHT, FINISHED = 1, 2
NO_ANSWER = "no answer"
"""The grading's word for a completion that gives none in the asked format."""


class Graded(NamedTuple):
    """One completion with its grade."""

    text: str
    tokens: int
    finished: bool
    right: bool
    note: str = ""
    """Of the grade: NO_ANSWER, or another reason why it says less than it seems."""


Table = Sequence[Sequence[Graded]]
"""[problems][samples]."""


def observe(tables: Mapping[str, Table], base: str) -> Seen:
    """Flips are counted against the arm `base`: its sample j of a problem beside sample j of the other arm, which drew
    the same random numbers.
    """
    edges = _edges([sample.tokens for table in tables.values() for row in table for sample in row])
    return Seen(edges, tuple(_arm(name, table, tables[base], edges) for name, table in tables.items()))


def _arm(name: str, table: Table, base: Table, edges: tuple[int, ...]) -> ArmSeen:
    if [len(row) for row in table] != [len(row) for row in base]:
        raise Usage(f"{name} and {base} were not asked the same questions", "evaluate them together")
    pairs = [
        (here, there)
        for ours, theirs in zip(table, base, strict=True)
        for here, there in zip(ours, theirs, strict=True)
    ]
    count = len(pairs)
    finished = [here.right for here, _ in pairs if here.finished]
    return ArmSeen(
        name=name,
        completions=count,
        tokens=sum(here.tokens for here, _ in pairs),
        finished=len(finished) / count,
        closed=sum("</think>" in here.text for here, _ in pairs) / count,
        boxed=sum(here.note != NO_ANSWER for here, _ in pairs) / count,
        among_finished=sum(finished) / len(finished) if finished else None,
        right=_histogram([here.tokens for here, _ in pairs if here.right], edges),
        wrong=_histogram([here.tokens for here, _ in pairs if not here.right], edges),
        notes=dict(Counter(here.note for here, _ in pairs if here.note not in ("", NO_ANSWER))),
        gained=sum(here.right and not there.right for here, there in pairs),
        lost=sum(there.right and not here.right for here, there in pairs),
        changes=tuple((_right(ours) - _right(theirs)) / len(ours) for ours, theirs in zip(table, base, strict=True)),
    )


def _right(row: Sequence[Graded]) -> int:
    return sum(sample.right for sample in row)


def score(table: Table) -> float:
    """Percent right."""
    return 100 * sum(map(_right, table)) / sum(map(len, table))


def _edges(lengths: Sequence[int]) -> tuple[int, ...]:
    """At most BINS bins of equal whole width from the shortest length to the longest."""
    low, high = min(lengths), max(lengths)
    width = max(1, -(-(high - low + 1) // BINS))
    return tuple(range(low, high + width + 1, width))


def _histogram(lengths: Sequence[int], edges: tuple[int, ...]) -> tuple[int, ...]:
    counts = [0] * (len(edges) - 1)
    for length in lengths:
        counts[(length - edges[0]) // (edges[1] - edges[0])] += 1
    return tuple(counts)


def browser(problems: Sequence[tuple[str, str]], tables: Mapping[str, Table], most: int) -> Browser:
    """The first problems whose completions, over all arms, are at most `most` and MOST_TEXT characters; problems are
    (question, gold answer).
    """
    rows, completions, characters = [], 0, 0
    for number, (question, answer) in enumerate(problems):
        cells = [
            [(plain(sample.text), RIGHT * sample.right + FINISHED * sample.finished) for sample in table[number]]
            for table in tables.values()
        ]
        completions += sum(map(len, cells))
        characters += len(question) + sum(len(text) for cell in cells for text, _ in cell)
        if completions > most or characters > MOST_TEXT:
            break
        rows.append((plain(question), plain(answer), cells))
    return Browser(tuple(tables), len(problems), rows)
