"""What callers may write for a value, and the library's settings made of it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..adapter.results import MODEL_SELECTION, TEST
from ..adapter.store import Adapter
from ..evaluation.plan import EvalSettings

AdapterLike = str | Adapter
"""An adapter by any of its names, or itself."""
Words = str | Sequence[str]
"""One word, several with commas between, or several."""
SAME_NAMES = ("dtype", "workers", "tensor_parallel", "lora", "gpu_memory", "tolerance")
ENGINE_FIELDS = {"engine": "name"} | {name: name for name in SAME_NAMES}
"""Keyword -> field of `Engines`."""
JUDGING = (
    "benchmark",
    "problems",
    "samples",
    "controls",
    "split",
    "seed",
    "problem_seed",
    "choosing",
    "greedy",
    "arms",
)
JUDGING += ("new_tokens", *ENGINE_FIELDS)
"""The keywords of `evaluate`, `matrix` and `sweep` that make its `EvalSettings`."""


def reference(adapter: AdapterLike) -> str:
    """The name by which the store finds it."""
    return adapter if isinstance(adapter, str) else adapter.manifest.reference


def references(adapters: AdapterLike | Sequence[AdapterLike]) -> list[str]:
    # An Adapter is a tuple too.
    return [reference(each) for each in ([adapters] if isinstance(adapters, str | Adapter) else adapters)]


def words(value: Words) -> list[str]:
    return [word.strip() for word in value.split(",")] if isinstance(value, str) else list(value)


def eval_settings(start: EvalSettings, choices: Mapping[str, Any]) -> EvalSettings:
    """`start` with these keyword arguments of `evaluate`, `matrix` or `sweep`."""
    fields: dict[str, Any] = {}
    engines: dict[str, Any] = {}
    for keyword, value in choices.items():
        if keyword in ENGINE_FIELDS:
            engines[ENGINE_FIELDS[keyword]] = value
        elif keyword == "controls":
            fields["seeds"] = value
        elif keyword == "arms":
            fields["arms"] = tuple(words(value))
        elif keyword == "choosing":
            fields["purpose"] = MODEL_SELECTION if value else TEST
        else:
            fields[keyword] = value
    return replace(start, **fields, engines=start.engines._replace(**engines))
