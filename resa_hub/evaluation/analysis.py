"""All numbers of one evaluation from the grades of its arms, kept with the samples: to look at a finished evaluation
again imports no statistics.
"""

from hashlib import sha256
from importlib.metadata import version

import msgspec

from .sampling.samples import SampleStore
from .statistics import Difference, Interval, average, difference
from .verdict import RULE, RULE_VERSION, AdapterArm, Verdict, judge_all

LIBRARIES = ("numpy", "scipy", "statsmodels")
Table = list[list[int]]
"""[n problems, K samples] of 0 and 1."""


class ArmsOfAdapter(msgspec.Struct, frozen=True):
    """What one adapter is held against, by names of arms."""

    controls: dict[str, str]
    """As the verdict calls them -> arm."""
    shown: list[str]
    """Arms that the rule does not use, but a reader wants to see."""
    identical: bool
    """It changes no logit of base."""


class Grades(msgspec.Struct, frozen=True):
    """What is judged: arms by name."""

    base: str
    source: str | None
    scores: dict[str, Table]
    greedy: dict[str, Table]
    """K = 1; empty without greedy answers."""
    adapters: dict[str, ArmsOfAdapter]


class Analysis(msgspec.Struct, frozen=True):
    """Verdicts by adapter, averages by arm, all as shares."""

    verdicts: dict[str, Verdict]
    averages: dict[str, Interval]
    greedy: dict[str, Interval]
    contrasts: dict[str, dict[str, Difference]]
    """adapter -> arm of `ArmsOfAdapter.shown` -> adapter minus arm."""


def analyse(grades: Grades) -> Analysis:
    """All numbers, computed. Raises `Usage` on scores that cannot be paired."""
    scores = grades.scores
    adapter_arms, contrasts = {}, {}
    for label, arms in grades.adapters.items():
        controls = {name: scores[arm] for name, arm in arms.controls.items()}
        adapter_arms[label] = AdapterArm(scores[label], controls, arms.identical)
        contrasts[label] = {arm: difference(scores[label], scores[arm]) for arm in arms.shown}
    source = scores[grades.source] if grades.source else None
    return Analysis(
        verdicts=judge_all(scores[grades.base], source, adapter_arms),
        averages={arm: average(table) for arm, table in scores.items()},
        greedy={arm: average(table) for arm, table in grades.greedy.items()},
        contrasts=contrasts,
    )


def cached_analysis(grades: Grades, store: SampleStore) -> Analysis:
    """As the store has it from the same grades by the same rule and libraries; else computed now, and stored."""
    key = [RULE_VERSION, RULE, [version(library) for library in LIBRARIES], grades]
    name = "analysis " + sha256(msgspec.json.encode(key)).hexdigest()
    stored = store.get_fact(name)
    if stored is None:
        stored = msgspec.to_builtins(analyse(grades))
        store.put_fact(name, stored)
    return msgspec.convert(stored, Analysis)
