"""The entries of the registry: one type for each of its sections."""

import re

from ..core.errors import Usage
from ..core.strict import Strict
from .refs import Repo


class HubLocation(Strict, frozen=True, kw_only=True):
    id: str
    revision: str | None = None
    subfolder: str | None = None

    @property
    def repo(self) -> Repo:
        return Repo(self.id, self.revision, self.subfolder)


class Model(Strict, frozen=True, kw_only=True):
    """A base model (`id`), or an adapter on another entry (`base` and `adapter`)."""

    id: str | None = None
    revision: str | None = None
    base: str | None = None
    adapter: HubLocation | None = None
    template: str | None = None
    """Prompt template: `r1`, or null for the model's own chat template."""
    recipes: dict[str, str] = {}
    """Method -> recipe that `extract --source NAME` runs; the first one when no method is named."""
    default_adapter: str | None = None
    """What `attach --target NAME` uses when no adapter is named."""
    cost_usd: float | None = None
    """What its reasoning training cost, as its authors say: a transfer from it is no cheaper than that."""
    cost_note: str = ""
    """Who says so, or what is known instead."""
    config: dict[str, int | bool] = {}
    """The sizes of its config.json, so that a plan needs no download."""
    note: str = ""


class Sae(Strict, frozen=True, kw_only=True):
    id: str
    format: str
    base: str
    hookpoints: str
    latents: int
    k: int
    revision: str | None = None
    note: str = ""


class Dataset(Strict, frozen=True, kw_only=True):
    id: str
    revision: str | None = None
    config: str | None = None
    split: str = "train"
    question: str | None = None
    """Column of the question; `column.key` reads a JSON text, `column.0` the first of a list, `messages` the first user
    turn. null: the first usual name that is there (data/columns.py).
    """
    answer: str | None = None
    solution: str | None = None
    """Column of the worked solution or chain of thought, where there is one."""
    rows: int | None = None
    row_tokens: int | None = None
    """Tokens of one example in the R1 template: an estimate, for plans."""
    note: str = ""


class BenchmarkEntry(Strict, frozen=True, kw_only=True):
    id: str
    revision: str | None = None
    config: str | None = None
    split: str = "test"
    question: str | None = None
    """Columns as those of a data set."""
    answer: str | None = None
    problems: int | None = None
    grading: str = "math"
    """A rule of evaluation/benchmarks/grading.py: math, integer, choice, exact, last-integer, answer-tag."""
    gold: str = "text"
    """Where the gold stands in `answer`: `text` is all of it, `box` the last box of a worked solution, `hashes` what
    follows ####.
    """
    choices: list[str] = []
    """Columns of the wrong choices; `answer` is the right one."""
    prompt: str | None = None
    """A prompt of evaluation/benchmarks/prompts.py (boxed, choice, bare) or a text with {problem}; null: the grading's.
    """
    temperature: float = 0.6
    top_p: float = 0.95
    new_tokens: int = 32_768
    gated: bool = False
    note: str = ""


class PublishedEntry(Strict, frozen=True, kw_only=True):
    """A published result, in percent, one sample a problem unless the source says otherwise."""

    scores: dict[str, float] = {}
    average: float | None = None
    recipe: str = ""
    source: str
    samples: int = 1
    """Samples a problem; the uncertainty of a single one follows from the score alone."""


class SweepEntry(Strict, frozen=True, kw_only=True):
    """A family of recipes that differ in one value: the sweep's name and a number name a recipe."""

    recipe: str
    vary: str
    """Key of the recipe, as hookpoint or source."""
    value: str
    """`{N}` stands for the number."""
    over: str
    """The numbers: 1-26, or 1,10,50."""
    note: str = ""

    @property
    def numbers(self) -> list[int]:
        return parse_numbers(self.over, "over")


KINDS: dict[str, type] = {
    "models": Model,
    "saes": Sae,
    "datasets": Dataset,
    "benchmarks": BenchmarkEntry,
    "recipes": dict,
    "sweeps": SweepEntry,
    "published": PublishedEntry,
    "remotes": str,
    "settings": str,
}
SINGULAR = {kind.removesuffix("s"): kind for kind in KINDS if kind.endswith("s")}


def parse_numbers(text: str, where: str = "--layers") -> list[int]:
    """The numbers that `1-26` or `0,2,5-7` names, in order; raises `Usage`."""
    chosen: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,4})(?:\s*-\s*(\d{1,4}))?\s*", part)
        if not match or (match[2] and int(match[2]) < int(match[1])):
            raise Usage(f"{where} {text!r} is not a list of numbers", "for example 1-26, or 0,2,5-7")
        chosen |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return sorted(chosen)
