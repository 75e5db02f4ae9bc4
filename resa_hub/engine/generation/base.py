"""What an engine is: one load of a base model that samples it with each of several adapters and without.

Light on purpose: the evaluation imports these types without loading torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from ...core import plugins
from ...data.snapshots import Files

Key = tuple[str, int]
"""(problem id, sample number)."""


class Sample(NamedTuple):
    text: str
    tokens: int
    finished: bool
    """False where the budget of new tokens ran out."""


ENGINES = {
    "transformers": "transformers_engine:TransformersEngine",
    "vllm": "vllm_engine:VllmEngine",
} | plugins.rows("ENGINES")
"""Name -> what opens it, called with (base, arms, config); it has the methods of `Engine`."""
BASE_CHANGED = "none of its samples was kept: report this, with `resa-hub show` of the adapters"


class Job(NamedTuple):
    """One sample to be drawn."""

    arm: str
    key: Key
    prompt: Sequence[int]
    """Token ids."""


class Sampling(NamedTuple):
    """How tokens are drawn."""

    temperature: float
    """0 is greedy."""
    top_p: float
    new_tokens: int
    """Budget of an answer."""
    seed: int


class Finished(NamedTuple):
    arm: str
    key: Key
    sample: Sample


class EngineConfig(NamedTuple):
    """What an engine is given to work with."""

    longest: int
    """Tokens of the longest prompt and its answer together."""
    dtype: str = "float32"
    tensor_parallel: int = 1
    lora: str = "auto"
    """How adapters run: `merged` into the weights one after another, `beside` the weights mixed in one batch, or
    `auto`.
    """
    gpu_memory: float | None = None
    """Share of each GPU's memory (vLLM); None: the engine's own."""
    tolerance: float | None = None
    """Nats by which log-probabilities may differ between batches in the self-check; None: by `dtype`."""


class Engine(Protocol):
    """A base model with named arms: folders of PEFT adapters, None for the base alone."""

    about: dict[str, str]
    """Name, version and device, for the record."""

    def check(self, texts: Mapping[str, Sequence[str]]) -> set[str]:
        """The arms whose adapter changes no logit on their texts. Raises `RunFailed` when base is not the same before,
        beside and after the adapters.
        """
        ...

    def run(self, jobs: Sequence[Job], sampling: Sampling) -> Iterator[list[Finished]]:
        """Every job once, in batches as they finish. A sample depends on its arm, its prompt and (seed, key), up to
        rounding on nothing else.
        """
        ...

    def close(self) -> None: ...


def open_engine(name: str, base: Files, arms: Mapping[str, Path | None], config: EngineConfig) -> Engine:
    """Load the base once; raises `MissingExtra` for an engine that is not installed."""
    return plugins.resolve(ENGINES[name], __package__ or "")(base, arms, config)
