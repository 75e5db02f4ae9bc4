"""The numbers of an evaluation are computed once for the same grades, rule and libraries, and are the same numbers when
they are read again.
"""

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from resa_hub.evaluation import analysis
from resa_hub.evaluation.analysis import Analysis, ArmsOfAdapter, Grades
from resa_hub.evaluation.sampling.samples import SampleStore
from resa_hub.evaluation.verdict import RULE, RULE_VERSION
from tests.helpers.commands import HANG, environment

READ = """
import sys
from pathlib import Path
import msgspec
from resa_hub.evaluation import analysis
from resa_hub.evaluation.sampling.samples import SampleStore
grades = msgspec.json.decode(sys.argv[2], type=analysis.Grades)
print(msgspec.json.encode(analysis.cached_analysis(grades, SampleStore(Path(sys.argv[1])))).decode())
assert not {"numpy", "scipy", "statsmodels", "torch"} & set(sys.modules)
"""


def grades(right: int = 30) -> Grades:
    """Forty problems, two samples: base solves a quarter, the adapter `right` of them."""
    scores = {
        "base": [[int(i < 10), int(i < 12)] for i in range(40)],
        "source": [[1, int(i < 35)] for i in range(40)],
        "a": [[int(i < right), 1] for i in range(40)],
        "a random-1": [[int(i < 9), int(i % 3 == 0)] for i in range(40)],
    }
    return Grades(
        base="base",
        source="source",
        scores=scores,
        greedy={"a": [[int(i < right)] for i in range(40)]},
        adapters={"a": ArmsOfAdapter({"random-1": "a random-1"}, shown=["source"], identical=False)},
    )


def analysed(given: Grades, folder: Path) -> Analysis:
    with contextlib.closing(SampleStore(folder)) as store:
        return analysis.cached_analysis(given, store)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[Grades]:
    """The grades that were not found in the store but analysed."""
    real, calls = analysis.analyse, []

    def counting(given: Grades) -> Analysis:
        calls.append(given)
        return real(given)

    monkeypatch.setattr(analysis, "analyse", counting)
    return calls


@pytest.mark.slow
def test_read_again_it_says_the_same_and_imports_no_statistics(tmp_path: Path) -> None:
    first = analysed(grades(), tmp_path)
    assert first == analysis.analyse(grades())
    assert first.verdicts["a"].word == "transferred" and first.contrasts["a"]["source"].value < 0
    command = [sys.executable, "-c", READ, str(tmp_path), msgspec.json.encode(grades()).decode()]
    again = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=HANG)
    assert again.returncode == 0, again.stderr
    assert msgspec.json.decode(again.stdout, type=Analysis) == first


@pytest.mark.slow
def test_equal_grades_are_analysed_once_and_others_anew(tmp_path: Path, computed: list[Grades]) -> None:
    first = analysed(grades(), tmp_path)
    assert analysed(grades(), tmp_path) == first and computed == [grades()]
    assert analysed(grades(29), tmp_path).averages["a"].value < first.averages["a"].value
    assert computed == [grades(), grades(29)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("RULE", msgspec.structs.replace(RULE, margin_floor=0.05)),
        ("RULE_VERSION", RULE_VERSION + 1),
        ("version", lambda library: "0"),
    ],
    ids=["the rule's values", "the rule's version", "libraries"],
)
def test_another_rule_or_other_libraries_judge_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, computed: list[Grades], name: str, changed: Any
) -> None:
    analysed(grades(), tmp_path)
    monkeypatch.setattr(analysis, name, changed)
    for _ in range(2):
        analysed(grades(), tmp_path)
    assert len(computed) == 2
