"""The evaluations that lie beside an adapter."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from ..core.errors import HubError
from ..core.files import read_json
from .results import in_current_words


class InFolder(Protocol):
    """An `Adapter`, which lies above this file."""

    @property
    def folder(self) -> Path: ...


LISTED_FIELDS = {"verdict", "sentence", "target", "benchmark", "split"}
"""What a file in `evals/` must hold to be listed with its adapter: it may be a stranger's."""


def load_evaluations(adapter: InFolder) -> list[dict[str, Any]]:
    """The evaluations that lie beside an adapter, oldest first, in today's words; otherwise unchecked, so that a list
    shows what `read_evaluation` refuses.
    """
    documents = [in_current_words(read_json(path)) for path in sorted((adapter.folder / "evals").glob("*.json"))]
    listed = [d for d in documents if isinstance(d, dict) and d.keys() >= LISTED_FIELDS]
    return sorted(listed, key=lambda d: str(d.get("created")))


def verdicts_of(adapter: InFolder) -> list[str]:
    """`latest_verdicts` of an adapter; empty where its evaluations cannot be read."""
    with contextlib.suppress(HubError, OSError):
        return latest_verdicts(load_evaluations(adapter))
    return []


def latest_verdicts(evaluations: Sequence[dict[str, Any]]) -> list[str]:
    """`transferred on tiny-r1`, once a target: the latest verdict there, the latest of all first.

    evaluations: oldest first.
    """
    latest: dict[str, str] = {}
    for evaluation in reversed(evaluations):
        latest.setdefault(str(evaluation["target"]), str(evaluation["verdict"]))
    return [f"{verdict} on {target}" for target, verdict in latest.items()]
