"""All numbers of one evaluation from the grades of its arms, kept with the samples: to look at a finished evaluation
again imports no statistics.
"""

from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import msgspec

from .sampling.samples import SampleStore
from .statistics import Difference, Interval, average, difference
from .verdict import RULE, AdapterArm, Verdict, judge_all

Table = list[list[int]]
"""[n problems, K samples] of 0 and 1."""


class ArmsOfAdapter(msgspec.Struct, frozen=True):
    """What one adapter is held against, by names of arms."""

    controls: dict[str, str]
    """As the verdict calls them -> arm."""
    shown: list[str]
    """Arms that the rule does not use, but a reader wants to see."""
    identical: bool


class Grades(msgspec.Struct, frozen=True):
    """What is judged: arms by name."""

    base: str
    source: str | None
    scores: dict[str, Table]
    greedy: dict[str, Table]
    adapters: dict[str, ArmsOfAdapter]


class Analysis(msgspec.Struct, frozen=True):
    verdicts: dict[str, Verdict]
    averages: dict[str, Interval]
    greedy: dict[str, Interval]
    contrasts: dict[str, dict[str, Difference]]
    """adapter -> arm of `Judged.shown` -> adapter minus arm."""


def analyse(grades: Grades) -> Analysis:
    """Computed. Raises `Usage` on scores that cannot be paired."""
    scores = grades.scores
    tests = {
        label: AdapterArm(scores[label], {name: scores[arm] for name, arm in judged.controls.items()}, judged.identical)
        for label, judged in grades.adapters.items()
    }
    return Analysis(
        verdicts=judge_all(scores[grades.base], scores[grades.source] if grades.source else None, tests),
        averages={arm: average(table) for arm, table in scores.items()},
        greedy={arm: average(table) for arm, table in grades.greedy.items()},
        contrasts={
            label: {arm: difference(scores[label], scores[arm]) for arm in judged.shown}
            for label, judged in grades.adapters.items()
        },
    )


def cached_analysis(grades: Grades, store: SampleStore) -> Analysis:
    """As it was computed before from the very same grades by the very same rule, code and libraries; else computed now,
    and kept.
    """
    name = "judgement " + sha256(msgspec.json.encode([_by(), RULE, grades])).hexdigest()
    found = store.get_fact(name)
    if found is None:
        found = msgspec.to_builtins(analyse(grades))
        store.put_fact(name, found)
    return msgspec.convert(found, Analysis)


def _by() -> list[str]:
    code = [
        sha256(Path(__file__).with_name(f"{name}.py").read_bytes()).hexdigest()
        for name in ("analysis", "statistics", "verdict")
    ]
    return [*code, *(version(package) for package in ("numpy", "scipy", "statsmodels"))]
