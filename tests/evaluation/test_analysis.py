"""The numbers of an evaluation are computed once for the same grades, rule and code, and are the same numbers when they
are read again.
"""

import contextlib
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from resa_hub.evaluation import analysis
from resa_hub.evaluation.analysis import Analysis, ArmsOfAdapter, Grades
from resa_hub.evaluation.sampling.samples import SampleStore
from resa_hub.evaluation.verdict import RULE
from tests.helpers.commands import environment

READ = """
import sys
from pathlib import Path
import msgspec
from resa_hub.evaluation import analysis as judgement
from resa_hub.evaluation.sampling.samples import SampleStore
grades = msgspec.json.decode(sys.argv[2], type=judgement.Grades)
print(msgspec.json.encode(judgement.kept(grades, SampleStore(Path(sys.argv[1])))).decode())
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
        "base",
        "source",
        scores,
        {"a": [[int(i < right)] for i in range(40)]},
        {"a": ArmsOfAdapter({"random-1": "a random-1"}, ["source"], False)},
    )


def kept(of: Grades, folder: Path) -> Analysis:
    with contextlib.closing(SampleStore(folder)) as store:
        return analysis.cached_analysis(of, store)


def test_read_again_it_says_the_same_and_imports_no_statistics(tmp_path: Path) -> None:
    first = kept(grades(), tmp_path)
    assert (
        first == analysis.analyse(grades())
        and first.verdicts["a"].word == "transferred"
        and first.contrasts["a"]["source"].value < 0
    )
    command = [sys.executable, "-c", READ, str(tmp_path), msgspec.json.encode(grades()).decode()]
    again = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)
    assert again.returncode == 0, again.stderr
    assert msgspec.json.decode(again.stdout, type=Analysis) == first


def test_other_grades_another_rule_or_other_code_are_judged_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(grades(), tmp_path)
    computed = []
    real = analysis.analyse
    monkeypatch.setattr(analysis, "judgement", lambda of: (computed.append(1), real(of))[1])
    assert kept(grades(), tmp_path) == real(grades()) and not computed
    assert (
        kept(grades(29), tmp_path).averages["a"].value < kept(grades(), tmp_path).averages["a"].value
        and len(computed) == 1
    )
    monkeypatch.setattr(analysis, "RULE", msgspec.structs.replace(RULE, margin_floor=0.05))
    kept(grades(), tmp_path)
    monkeypatch.setattr(analysis, "version", lambda package: "0")
    kept(grades(), tmp_path)
    assert len(computed) == 3
