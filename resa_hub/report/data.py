"""The data of a report: evaluation documents (perhaps a stranger's), and beside each what its samples and its adapter
tell besides.

Documents hold scores in percent, gains in points and the differences of `comparisons` as shares, as `eval` writes them.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ..core.errors import Integrity

Pair = tuple[float, float]
Count = Annotated[int, Meta(ge=1, le=10**9)]
Percent = Annotated[float, Meta(ge=0, le=100)]
Points = Annotated[float, Meta(ge=-100, le=100)]
Share = Annotated[float, Meta(ge=-1, le=1)]
Probability = Annotated[float, Meta(ge=0, le=1)]
MOST = 500
"""Arms, comparisons or layers of one document: more are no evaluation of ours."""


class Arm(msgspec.Struct, frozen=True):
    name: str
    role: str
    score: Percent
    score_ci: tuple[Percent, Percent]
    lenient: Percent | None = 0.0
    greedy: Percent | None = None
    tokens: Annotated[float, Meta(ge=0)] | None = 0.0
    unfinished: Percent | None = 0.0
    """These three are None where another tool drew the samples and does not tell."""
    prompts: str = ""
    """Digest of the rendered prompts."""
    samples: str = ""
    """Digest of its set of samples."""


class Comparison(msgspec.Struct, frozen=True):
    """Adapter minus one other arm, as a share."""

    against: str
    value: Share
    low: Share
    high: Share
    p_holm_above_margin: Probability
    p_holm_below: Probability
    bound_low_holm: Share
    bound_high_holm: Share


class Contrast(msgspec.Struct, frozen=True):
    """Adapter minus an arm that the rule does not use, points, uncorrected."""

    against: str
    value: Points
    low: Points
    high: Points


class Document(msgspec.Struct, frozen=True):
    """What a report needs of an evaluation document. Fields that it does not know are shown among the settings."""

    adapter: str
    target: str
    benchmark: str
    split: str
    problems: Count
    samples: Count
    verdict: str
    sentence: str
    gain: Points
    gain_ci: tuple[Points, Points]
    margin: Annotated[float, Meta(ge=0, le=100)]
    arms: Annotated[list[Arm], Meta(min_length=1, max_length=MOST)]
    comparisons: Annotated[list[Comparison], Meta(max_length=MOST)] = []
    content_hash: str = ""
    fit: str = ""
    temperature: float | None = 0.0
    harness: str = ""
    """The tool that drew and graded the samples, with its version; empty for our own evaluations."""
    seed: int = 0
    draw: int = 0
    p: Probability = 1.0
    gain_ci_same_problems: Pair | None = None
    retained: float | None = None
    retained_ci: Pair | None = None
    source_gain: Points | None = None
    source_gain_ci: Pair | None = None
    base_over_source: float | None = None
    adapter_over_source: float | None = None
    created: str = ""
    seconds: float = 0.0
    contrasts: Annotated[list[Contrast], Meta(max_length=MOST)] = []
    notes: Annotated[list[str], Meta(max_length=MOST)] = []

    @property
    def p_holm(self) -> float | None:
        """What decides: the largest corrected p over all comparisons, of the side that the adapter is on."""
        sides = [c.p_holm_above_margin if self.gain >= 0 else c.p_holm_below for c in self.comparisons]
        return max(sides) if sides else None

    def arm(self, role: str) -> Arm | None:
        return next((arm for arm in self.arms if arm.role == role), None)


class ArmSeen(msgspec.Struct, frozen=True):
    """What the samples of one arm tell; shares of all its completions."""

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
    """Histograms of the length over `Seen.edges`."""
    gained: int
    lost: int
    """Pairs (problem, sample) that are wrong in base and right here, and the reverse."""
    changes: tuple[float, ...]
    """Per problem, in the order of the benchmark: share right here minus share right in base."""
    notes: dict[str, int] = {}
    """What the grading says of completions besides: time-outs, unreadable golds, answers given while thinking."""


class Seen(msgspec.Struct, frozen=True):
    edges: tuple[int, ...]
    """Bin i holds lengths of edges[i] <= tokens < edges[i + 1]."""
    arms: tuple[ArmSeen, ...]

    @property
    def tokens(self) -> int:
        return sum(arm.tokens for arm in self.arms)


class Browser(msgspec.Struct, frozen=True):
    """Samples that are embedded: whole problems from the front, all arms."""

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
    score_ci: Pair | None
    """Wilson's interval for one sample a problem; None where the source averaged over several."""
    source: str


class ReportEntry(msgspec.Struct, frozen=True):
    """One evaluation and what is known besides."""

    document: Document
    settings: dict[str, Any]
    """Every scalar of the document."""
    making: dict[str, Any] = {}
    """How the adapter was made: its manifest, flattened; empty where it is not in the store."""
    source: str = ""
    method: str = ""
    warnings: list[str] = []
    """What a reader has to know beside the verdict."""
    seen: Seen | None = None
    unseen: str = ""
    """Why there is no `seen`."""
    browser: Browser | None = None
    published: list[PublishedScore] = []
    p_over_cells: float | None = None
    """p of the gain, Holm-corrected over all cells of the report; None where there is a single one."""

    @property
    def cell(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Row (source, adapter) and column (target, benchmark) of the heat map."""
        d = self.document
        draw = f", draw {d.draw}" if d.draw else ""
        return (self.source, d.adapter), (d.target, f"{d.benchmark} ({d.split}{draw})")


class CurvePoint(msgspec.Struct, frozen=True):
    layer: Annotated[int, Meta(ge=0, le=9_999)]
    seed: int
    adapter: str
    gain: Points
    gain_ci: tuple[Points, Points]
    verdict: str
    controls: Annotated[list[Points], Meta(max_length=MOST)] = []


class Curve(msgspec.Struct, frozen=True):
    """A sweep over layers, as `sweep` writes it."""

    method: str
    source: str
    target: str
    benchmark: str
    split: str
    problems: int
    samples: int
    places: Annotated[list[CurvePoint], Meta(min_length=1, max_length=MOST)]
    sentence: str
    source_gain: Points | None = None


class Report(msgspec.Struct, frozen=True):
    entries: list[ReportEntry]
    curves: list[Curve] = []
    created: str = ""
    version: str = ""
    left_out: list[str] = []
    """Evaluations that could not be read, and why."""


def document(content: Any, where: str) -> Document:
    """A document checked field by field; raises `Integrity`. Texts that a stranger wrote come back without characters
    that play with the reader.
    """
    try:
        return msgspec.convert(readable(content), Document)
    except msgspec.ValidationError as error:
        raise Integrity(
            f"{where} is not an evaluation: {error}",
            "`resa-hub eval` writes such files; make it again, or ask its author",
        ) from None


def curve(content: Any, where: str) -> Curve:
    """A sweep checked field by field; raises `Integrity`."""
    try:
        return msgspec.convert(readable(content), Curve)
    except msgspec.ValidationError as error:
        raise Integrity(
            f"{where} is not a sweep: {error}", "`resa-hub sweep` writes such files; make it again, or ask its author"
        ) from None


def scalars(content: dict[str, Any]) -> dict[str, Any]:
    """Every setting of a document by its path: `run.engine`; arms and comparisons are shown elsewhere."""
    return dict(
        _flat(
            readable(
                {
                    key: value
                    for key, value in content.items()
                    if key not in ("arms", "comparisons", "contrasts", "notes")
                }
            )
        )
    )


def flat(content: Any) -> dict[str, Any]:
    return dict(_flat(readable(content)))


def _flat(value: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in _flat(inner, f"{path}.{key}" if path else str(key))]
    if isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        return [pair for number, inner in enumerate(value) for pair in _flat(inner, f"{path}[{number}]")]
    if isinstance(value, list):
        value = ", ".join(_number(inner) for inner in value)
    return [(path, value)]


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def readable(value: Any) -> Any:
    """The same JSON value, texts made harmless by `plain`."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, dict):
        return {plain(str(key)): readable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [readable(inner) for inner in value]
    return value


def plain(text: str) -> str:
    """Characters that are not printable (control, direction, lone surrogates) are named instead: a reader sees what is
    there and UTF-8 can hold it.
    """
    return (
        text
        if text.isprintable()
        else "".join(c if c.isprintable() or c in "\n\t" else f"\u27e8U+{ord(c):04X}\u27e9" for c in text)
    )
