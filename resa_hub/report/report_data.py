"""The data of a report: evaluations (perhaps a stranger's), and with each what its samples and its adapter tell."""

from typing import Any

import msgspec

from ..adapter.results import AnyEvaluation, Bounds, Sweep
from ..adapter.usage import Snippet
from ..core.safe_text import plain_json


class ArmStatistics(msgspec.Struct, frozen=True):
    """What the samples of one arm tell; shares are of all its completions."""

    name: str
    completions: int
    tokens: int
    finished: float
    closed: float
    """Share in which `</think>` was closed."""
    boxed: float
    """Share that gives an answer in the asked format, right or wrong."""
    among_finished: float | None
    """Share right among the finished ones; None where none is finished."""
    right: tuple[int, ...]
    wrong: tuple[int, ...]
    """Histograms of the length over `SampleStatistics.edges`."""
    gained: int
    lost: int
    """Pairs (problem, sample) that are wrong in base and right here, and the reverse."""
    changes: tuple[float, ...]
    """Per problem, in the order of the benchmark: share right here minus share right in base."""
    notes: dict[str, int] = {}
    """Completions by a reservation of the grading: time-out, unreadable gold, answered while thinking."""


class SampleStatistics(msgspec.Struct, frozen=True):
    """What the samples of an evaluation tell, arm by arm."""

    edges: tuple[int, ...]
    """Bin i holds lengths of edges[i] <= tokens < edges[i + 1]."""
    arms: tuple[ArmStatistics, ...]

    @property
    def tokens(self) -> int:
        return sum(arm.tokens for arm in self.arms)


class EmbeddedSamples(msgspec.Struct, frozen=True):
    """Samples that a page holds: whole problems from the front, all arms."""

    arms: tuple[str, ...]
    total: int
    """Problems of the evaluation."""
    rows: list[tuple[str, str, list[list[tuple[str, int]]]]]
    """(question, gold answer, [arm][sample] -> (text, 1 right + 2 finished))."""


class PublishedScore(msgspec.Struct, frozen=True):
    """A published score, percent."""

    label: str
    role: str
    score: float
    score_ci: Bounds | None
    """Wilson's interval for one sample a problem; None where the source averaged over several."""
    source: str


class ReportEntry(msgspec.Struct, frozen=True):
    """One evaluation with what is known about it."""

    document: AnyEvaluation
    settings: dict[str, Any]
    """Every scalar of the document."""
    making: dict[str, Any] = {}
    """How the adapter was made: its manifest, flattened; empty where it is not in the store."""
    source: str = ""
    method: str = ""
    warnings: list[str] = []
    """What a reader has to know beside the verdict."""
    remarks: list[str] = []
    """What was looked at and is in order."""
    use: list[Snippet] = []
    """What to do with the adapter; empty where it is not in the store."""
    license: str = ""
    """What is known of its licence."""
    seen: SampleStatistics | None = None
    unseen: str = ""
    """Why there is no `seen`."""
    browser: EmbeddedSamples | None = None
    published: list[PublishedScore] = []
    p_over_cells: float | None = None
    """p of the gain, Holm-corrected over all cells of the report; None where there is a single one."""

    @property
    def cell(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Row (source, adapter) and column (target, benchmark) of the heat map."""
        d = self.document
        seed = f", problem seed {d.problem_seed}" if d.problem_seed else ""
        return (self.source, d.adapter), (d.target, f"{d.benchmark} ({d.split}{seed})")


class Report(msgspec.Struct, frozen=True):
    """Everything that a page, a Markdown file or a JSON file shows."""

    entries: list[ReportEntry]
    curves: list[Sweep] = []
    created: str = ""
    version: str = ""
    left_out: list[str] = []
    """Evaluations that could not be read, and why."""


SHOWN_ELSEWHERE = ("arms", "comparisons", "contrasts", "notes")


def scalars(content: dict[str, Any]) -> dict[str, Any]:
    """Every setting of a document by its path, as `run.engine`; what has a place of its own in a report is left out."""
    return flat({key: value for key, value in content.items() if key not in SHOWN_ELSEWHERE})


def flat(content: Any) -> dict[str, Any]:
    """The scalars of a JSON value by their paths, texts made safe to show; a list of scalars is one text."""
    return dict(_flat(plain_json(content)))


def _flat(value: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in _flat(inner, f"{path}.{key}" if path else str(key))]
    if not isinstance(value, list):
        return [(path, value)]
    if any(isinstance(inner, dict | list) for inner in value):
        return [pair for number, inner in enumerate(value) for pair in _flat(inner, f"{path}[{number}]")]
    return [(path, ", ".join(f"{inner:.4g}" if isinstance(inner, float) else str(inner) for inner in value))]
