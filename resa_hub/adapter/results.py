"""The schema of evaluations and sweeps: what is kept in `evals/`, printed by `--json`, and read by reports and cards.

Documents come from strangers too, so every field has its bounds: they are checked when a document is read. Scores are
in percent, gains in points, and the differences of `comparisons` are shares.
"""

import re
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from ..core.errors import Integrity
from ..core.safe_text import plain_json
from . import shown

MOST = 500
"""Arms, comparisons or layers of one document: more are no evaluation of ours."""
Bounds = tuple[float, float]
Count = Annotated[int, Meta(ge=1, le=10**9)]
NotNegative = Annotated[float, Meta(ge=0)]
Percent = Annotated[float, Meta(ge=0, le=100)]
Points = Annotated[float, Meta(ge=-100, le=100)]
Share = Annotated[float, Meta(ge=-1, le=1)]
Probability = Annotated[float, Meta(ge=0, le=1)]
PercentInterval = tuple[Percent, Percent]
PointsInterval = tuple[Points, Points]

TEST, MODEL_SELECTION = "test", "model-selection"
"""Purposes of an evaluation: to judge an adapter, or to compare layers, checkpoints or settings."""
NOTHING_WRONG = re.compile(
    r"overlap with .+: 0 of \d+ problems are in it, 0 share .+|\d+ damaged samples were made again|"
    r"prompt-only is base with .+ differ by design|.+ intervals are wider for it, not wrong",
    re.DOTALL,
)
"""Notes that say how something is, not that it is amiss."""
NGRAM = 13
"""Words in a row that a problem and a row of the data must share to overlap."""


class Overlap(msgspec.Struct, frozen=True):
    """How many problems of an evaluation stand in one data set of the extraction."""

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
        shared = set(self.exact) | set(self.ngram)
        return (
            f"overlap with {self.data}: {len(self.exact)} of {self.problems} problems are in it, {len(shared)} "
            f"share {NGRAM} words in a row or all of theirs"
        )


class ArmResult(msgspec.Struct, frozen=True):
    """The scores of one arm, in percent."""

    name: str
    role: str
    score: Percent
    """Of the answers in the format that is asked for, as lm-eval's `strict-match`."""
    score_ci: PercentInterval
    lenient: Percent | None = 0.0
    """Of the answers wherever they stand in the text, as lm-eval's `flexible-extract`."""
    greedy: Percent | None = None
    greedy_ci: PercentInterval | None = None
    tokens: NotNegative | None = 0.0
    """Mean length of a completion."""
    truncated: Percent | None = 0.0
    """Share of completions cut by the budget. As `lenient` and `tokens`, null where another tool does not tell it."""
    prompts: str = ""
    """sha256 over the token ids of all prompts: equal in all arms that are compared, but for prompt-only."""
    samples: str = ""
    """Digest of its set of samples in the store of the workspace."""

    def __repr__(self) -> str:
        return shown.arm_line(self)

    def _cells(self) -> dict[str, str]:
        return shown.arm_cells(self)


class ImportedArmResult(ArmResult, frozen=True, omit_defaults=True):
    """The scores of an arm whose samples another tool drew: what that tool does not know is not written."""

    metric: str = ""
    """The tool's name of what `score` is."""


class Comparison(msgspec.Struct, frozen=True):
    """Adapter minus one other arm that the rule of the verdict uses, as shares of answers."""

    against: str
    value: Share
    low: Share
    high: Share
    """low, high: uncorrected interval on new problems."""
    p_holm_above_margin: Probability
    p_holm_below: Probability
    """Of the tests that the difference is above m, and below -m."""
    bound_low_holm: Share
    bound_high_holm: Share
    """Bounds at the level Holm tested them at: bound_low_holm > m exactly when p_holm_above_margin < 0.025, and the
    mirror image.
    """


class Contrast(msgspec.Struct, frozen=True, kw_only=True):
    """Adapter minus an arm that the rule of the verdict does not use, in points, on new problems; uncorrected."""

    against: str
    role: str = ""
    value: Points
    low: Points
    high: Points
    p: Probability = 1.0


class EvaluationDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What every evaluation holds, whoever drew the samples: adapter, problems, verdict and arms. Fields that older
    versions did not write have a default.
    """

    adapter: str
    content_hash: str = ""
    target: str
    target_revision: str = ""
    fit: str = ""
    benchmark: str
    split: str
    problems: Count
    samples: Count
    """Of each problem."""
    temperature: float | None = 0.0
    """Null where the task or the model of another tool sets it."""
    seed: int = 0
    verdict: str
    sentence: str
    gain: Points
    gain_ci: PointsInterval
    gain_ci_same_problems: Bounds | None = None
    p: Probability = 1.0
    retained: float | None = None
    """The adapter's gain over the source's gain."""
    retained_ci: Bounds | None = None
    source_gain: Points | None = None
    source_gain_ci: Bounds | None = None
    base_over_source: float | None = None
    adapter_over_source: float | None = None
    margin: Annotated[float, Meta(ge=0, le=100)]
    comparisons: Annotated[list[Comparison], Meta(max_length=MOST)] = []
    arms: Annotated[list[ArmResult], Meta(min_length=1, max_length=MOST)]
    created: str = ""

    def __repr__(self) -> str:
        return shown.evaluation_line(type(self).__name__, self)

    def _cells(self) -> dict[str, str]:
        return shown.evaluation_cells(self)

    def _repr_html_(self) -> str:
        return shown.evaluation_html(self)

    @property
    def p_holm(self) -> float | None:
        """What decides: the largest corrected p over all comparisons, of the side that the adapter is on."""
        if self.gain >= 0:
            return max((c.p_holm_above_margin for c in self.comparisons), default=None)
        return max((c.p_holm_below for c in self.comparisons), default=None)

    def arm(self, role: str) -> ArmResult | None:
        """The first arm of that role."""
        return next((arm for arm in self.arms if arm.role == role), None)


class Evaluation(EvaluationDocument, frozen=True, kw_only=True):
    """The judgement of one adapter on one target and benchmark, its samples drawn here."""

    harness: ClassVar[str] = ""
    seconds: float = 0.0
    problem_seed: int = 0
    """Which problems of a generated benchmark."""
    top_p: float = 1.0
    new_tokens: int = 0
    """Budget of an answer, in tokens."""
    engine: dict[str, str] = {}
    """Name, version, device and dtype."""
    fingerprint: str = ""
    """sha256 over ids, questions and answers of the problems."""
    minimum_detectable_effect: float | None = None
    """The difference from base that a run of this size shows with 80% power, points, on new problems: 2.80 standard
    errors of the gain.
    """
    contrasts: Annotated[list[Contrast], Meta(max_length=MOST)] = []
    purpose: str = TEST
    """`test` or `model-selection`: with the latter, layers, checkpoints or settings were compared on these problems, so
    that this adapter's gain on them is too high.
    """
    overlaps: list[Overlap] = []
    """Of each data set of the extraction with the problems."""
    notes: Annotated[list[str], Meta(max_length=MOST)] = []
    """What has to be known besides: arms that were left out, weaker pairing, damaged samples."""


class ImportedEvaluation(EvaluationDocument, frozen=True, kw_only=True):
    """An evaluation whose samples another tool drew and graded. `benchmark` is its task, `split` its name, for the
    problems are of no split of ours.
    """

    seconds: ClassVar[float] = 0.0
    contrasts: ClassVar[list[Contrast]] = []
    arms: Annotated[list[ImportedArmResult], Meta(min_length=1, max_length=MOST)]
    harness: str
    """The tool with its version."""
    engine: dict[str, str] = {}
    new_tokens: int | None = None
    """Budget of an answer where it was asked for; null: the task's own."""
    notes: Annotated[list[str], Meta(max_length=MOST)] = []
    problem_seed: int = 0
    purpose: str = TEST


AnyEvaluation = Evaluation | ImportedEvaluation


def warnings_and_remarks(notes: list[str]) -> tuple[list[str], list[str]]:
    """The notes of a document that a reader has to mind, and those that say that nothing is wrong."""
    warnings = [note for note in notes if not NOTHING_WRONG.fullmatch(note)]
    return warnings, [note for note in notes if NOTHING_WRONG.fullmatch(note)]


class SweepPoint(msgspec.Struct, frozen=True):
    """One point of the curve: gains in points over base."""

    layer: Annotated[int, Meta(ge=0, le=9_999)]
    seed: int
    adapter: str
    gain: Points
    gain_ci: PointsInterval
    verdict: str
    controls: Annotated[tuple[Points, ...], Meta(max_length=MOST)] = ()
    """Gains of the random adapters of equal norm."""

    def _cells(self) -> dict[str, str]:
        return shown.point_cells(self)


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """Adapters of several layers and seeds, judged on the same problems."""

    method: str
    source: str
    target: str
    benchmark: str
    split: str
    problems: int
    samples: int
    source_gain: Points | None = None
    places: Annotated[list[SweepPoint], Meta(min_length=1, max_length=MOST)]
    p_adapters: float | None = None
    """p of the hypothesis that all adapters answer alike on these problems."""
    p_layers: float | None = None
    """p of the hypothesis that layers do not matter, against the spread of seeds; null for one seed a layer."""
    sentence: str
    plot: str = ""

    def __repr__(self) -> str:
        return shown.sweep_line(self)

    def _repr_html_(self) -> str:
        return shown.sweep_html(self)


def read_evaluation(content: Any, where: str) -> AnyEvaluation:
    """A document of any version, checked field by field; raises `Integrity`. Texts come back as `plain` makes them."""
    imported = isinstance(content, dict) and content.get("harness", "") != ""
    try:
        return msgspec.convert(plain_json(in_current_words(content)), ImportedEvaluation if imported else Evaluation)
    except msgspec.ValidationError as error:
        raise Integrity(
            f"{where} is not an evaluation: {error}",
            "`resa-hub eval` writes such files; make it again, or ask its author",
        ) from None


def read_sweep(content: Any, where: str) -> Sweep:
    """A sweep checked field by field; raises `Integrity`."""
    try:
        return msgspec.convert(plain_json(content), Sweep)
    except msgspec.ValidationError as error:
        raise Integrity(
            f"{where} is not a sweep: {error}", "`resa-hub sweep` writes such files; make it again, or ask its author"
        ) from None


FORMER_FIELDS = {"draw": "problem_seed", "detectable": "minimum_detectable_effect", "unfinished": "truncated"}
FORMER_PURPOSES = {"choosing": MODEL_SELECTION, "judging": TEST}


def in_current_words(content: Any) -> Any:
    """A document of an older version with the names of today's fields and purposes; any other value as it is."""
    if not isinstance(content, dict):
        return content
    current = _renamed(content)
    if isinstance(current.get("arms"), list):
        current["arms"] = [_renamed(arm) if isinstance(arm, dict) else arm for arm in current["arms"]]
    if isinstance(current.get("purpose"), str):
        current["purpose"] = FORMER_PURPOSES.get(current["purpose"], current["purpose"])
    return current


def _renamed(content: dict[str, Any]) -> dict[str, Any]:
    return {FORMER_FIELDS.get(key, key): value for key, value in content.items()}
