"""What the samples of an evaluation tell beyond its scores: flips against base, lengths, format, and the texts
themselves.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ..core.errors import Usage
from ..core.safe_text import plain
from .report_data import ArmStatistics, EmbeddedSamples, SampleStatistics

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


def observe(tables: Mapping[str, Table], base: str) -> SampleStatistics:
    """tables: of each arm. Flips are counted against the arm `base`: its sample j of a problem beside sample j of the
    other arm, which drew the same random numbers. Raises `Usage` for tables of different sizes.
    """
    edges = _edges([sample.tokens for table in tables.values() for sample in _samples(table)])
    for name, table in tables.items():
        if [len(row) for row in table] != [len(row) for row in tables[base]]:
            raise Usage(f"{name} and {base} were not asked the same questions", "evaluate them together")
    return SampleStatistics(edges, tuple(_arm(name, table, tables[base], edges) for name, table in tables.items()))


def _samples(table: Table) -> list[Graded]:
    return [sample for row in table for sample in row]


def _arm(name: str, table: Table, base: Table, edges: tuple[int, ...]) -> ArmStatistics:
    samples = _samples(table)
    count = len(samples)
    finished = [sample for sample in samples if sample.finished]
    flips = Counter((before.right, after.right) for before, after in zip(_samples(base), samples, strict=True))
    return ArmStatistics(
        name=name,
        completions=count,
        tokens=sum(sample.tokens for sample in samples),
        finished=len(finished) / count,
        closed=sum("</think>" in sample.text for sample in samples) / count,
        boxed=sum(sample.note != NO_ANSWER for sample in samples) / count,
        among_finished=_right(finished) / len(finished) if finished else None,
        right=_histogram((sample.tokens for sample in samples if sample.right), edges),
        wrong=_histogram((sample.tokens for sample in samples if not sample.right), edges),
        gained=flips[False, True],
        lost=flips[True, False],
        changes=tuple(
            (_right(row) - _right(row_of_base)) / len(row) for row, row_of_base in zip(table, base, strict=True)
        ),
        notes=dict(Counter(sample.note for sample in samples if sample.note not in ("", NO_ANSWER))),
    )


def _right(samples: Sequence[Graded]) -> int:
    return sum(sample.right for sample in samples)


def score(table: Table) -> float:
    """Percent right."""
    samples = _samples(table)
    return 100 * _right(samples) / len(samples)


def _edges(lengths: Sequence[int]) -> tuple[int, ...]:
    """At most BINS bins of equal whole width from the shortest length to the longest."""
    low, high = min(lengths), max(lengths)
    width = max(1, -(-(high - low + 1) // BINS))
    return tuple(range(low, high + width + 1, width))


def _histogram(lengths: Iterable[int], edges: tuple[int, ...]) -> tuple[int, ...]:
    counts = [0] * (len(edges) - 1)
    for length in lengths:
        counts[(length - edges[0]) // (edges[1] - edges[0])] += 1
    return tuple(counts)


def embedded(problems: Sequence[tuple[str, str]], tables: Mapping[str, Table], most: int) -> EmbeddedSamples:
    """The first problems whose completions, over all arms, are at most `most` and MOST_TEXT characters.

    problems: (question, gold answer) each.
    """
    rows, completions, characters = [], 0, 0
    for number, (question, answer) in enumerate(problems):
        cells = [[(plain(sample.text), _flags(sample)) for sample in table[number]] for table in tables.values()]
        completions += sum(map(len, cells))
        characters += len(question) + sum(len(text) for cell in cells for text, _ in cell)
        if completions > most or characters > MOST_TEXT:
            break
        rows.append((plain(question), plain(answer), cells))
    return EmbeddedSamples(tuple(tables), len(problems), rows)


def _flags(sample: Graded) -> int:
    return RIGHT * sample.right + FINISHED * sample.finished
