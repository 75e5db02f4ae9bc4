"""What an evaluation found, as it is kept beside the adapter, printed by `--json` and drawn by reports."""

from typing import Any, Generic, TypeVar

import msgspec

from ..core.errors import NotFound
from ..core.files import read_bounded, read_json
from .layout import CARD
from .store import Adapter

WORDS = 13


class Overlap(msgspec.Struct, frozen=True):
    """Of one data set with the problems of an evaluation."""

    data: str
    rows: int
    problems: int
    exact: list[str]
    """Ids of problems whose question is a row of the data."""
    ngram: list[str]
    """Ids of problems that share 13 words in a row with a row of the data; those in `exact` that are long enough are
    among them.
    """
    reason: str = ""
    """Why it was not measured; empty when it was."""

    @property
    def sentence(self) -> str:
        if self.reason:
            return f"overlap with {self.data}: not measured, {self.reason}"
        found = set(self.exact) | set(self.ngram)
        return (
            f"overlap with {self.data}: {len(self.exact)} of {self.problems} problems are in it, {len(found)} "
            f"share {WORDS} words in a row or all of theirs"
        )


SHOWN = {"verdict", "sentence", "target", "benchmark", "split"}
"""What a file in `evals/` must hold to be shown: it may be a stranger's."""


def current_card(adapter: Adapter) -> str:
    """The card as it is."""
    try:
        return read_bounded(adapter.folder / CARD).decode(errors="replace")
    except NotFound:
        return ""


def load_evaluations(adapter: Adapter) -> list[dict]:
    """The evaluations that lie beside an adapter, oldest first."""
    found = [read_json(path) for path in sorted((adapter.folder / "evals").glob("*.json"))]
    return sorted((e for e in found if isinstance(e, dict) and e.keys() >= SHOWN), key=lambda e: str(e.get("created")))


Temperature = TypeVar("Temperature", float, float | None)
Arm = TypeVar("Arm")


class ArmResult(msgspec.Struct, frozen=True):
    """One row of the table; scores in percent."""

    name: str
    role: str
    score: float
    score_ci: tuple[float, float]
    lenient: float
    greedy: float | None
    greedy_ci: tuple[float, float] | None
    tokens: float
    """Mean length of a completion."""
    unfinished: float
    """Share of completions cut by the budget, percent."""
    prompts: str = ""
    """sha256 over the token ids of all prompts: equal in all arms that are compared, but for prompt-only."""
    samples: str = ""
    """The set of its samples in the store of the workspace."""


class Contrast(msgspec.Struct, frozen=True):
    """Adapter minus an arm that the rule of the verdict does not use, in points, on new problems; uncorrected."""

    against: str
    role: str
    value: float
    low: float
    high: float
    p: float


class Outcome(msgspec.Struct, Generic[Temperature, Arm], frozen=True):
    """Which adapter was judged on which problems, and the verdict, whoever drew the samples. Scores in percent, gains
    in points, retained as a ratio.
    """

    adapter: str
    content_hash: str
    target: str
    target_revision: str
    fit: str
    benchmark: str
    split: str
    problems: int
    samples: int
    temperature: Temperature
    seed: int
    verdict: str
    sentence: str
    gain: float
    gain_ci: tuple[float, float]
    gain_ci_same_problems: tuple[float, float] | None
    p: float
    retained: float | None
    retained_ci: tuple[float, float] | None
    source_gain: float | None
    source_gain_ci: tuple[float, float] | None
    base_over_source: float | None
    adapter_over_source: float | None
    margin: float
    comparisons: list[dict[str, Any]]
    arms: list[Arm]
    created: str


class Evaluation(Outcome[float, ArmResult], frozen=True):
    """The judgement of one adapter on one target and benchmark."""

    seconds: float
    draw: int = 0
    top_p: float = 1.0
    new_tokens: int = 0
    engine: dict[str, str] = {}
    """Name, version, device and dtype."""
    fingerprint: str = ""
    """sha256 over ids, questions and answers of the problems."""
    detectable: float | None = None
    """The difference from base that a run of this size shows with 80% power, points, on new problems: 2.80 standard
    errors of the gain.
    """
    contrasts: list[Contrast] = []
    purpose: str = "judging"
    """choosing: layers, checkpoints or settings were compared on these problems, so that this adapter's gain on them is
    too high.
    """
    overlaps: list[Overlap] = []
    """Of each data set of the extraction with the problems."""
    notes: list[str] = []
    """What has to be known besides: arms that were left out, weaker pairing, damaged samples."""


class ImportedEvaluation(Outcome[float | None, dict[str, Any]], frozen=True):
    """An evaluation whose samples another tool drew and graded. `benchmark` is its task, `split` its name, for the
    problems are of no split of ours;
    `temperature` is None where the task or the model sets it.
    """

    harness: str
    """The tool with its version."""
    engine: dict[str, str]
    new_tokens: int | None
    """Budget of an answer where it was asked for; None: the task's own."""
    notes: list[str]
    draw: int = 0
    purpose: str = "judging"
