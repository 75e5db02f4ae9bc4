"""A session and an extraction of the methods that patch, small enough for tests."""

from pathlib import Path
from typing import Any

import torch

from resa_hub.adapter.store import Adapter
from resa_hub.config.registry import Registry
from resa_hub.core.progress import Progress
from resa_hub.data import datasets
from resa_hub.data.snapshots import locate
from resa_hub.engine.methods.context import ExtractionContext
from resa_hub.engine.model.loading import Source
from resa_hub.extraction.extract import extract
from resa_hub.extraction.plan import Plan, plan
from tests.conftest import QUICK

SMALL = [*QUICK, "rollouts.count=48", "elicit.rows=64"]
QUIET = Progress(quiet=True)


def planned(*settings: str, **choices: Any) -> Plan:
    choices = {"method": "feature-diff"} | choices
    return plan("tina-tiny", registry=Registry(), settings=[*SMALL, *settings], **choices)


def session(*settings: str, **choices: Any) -> ExtractionContext:
    made = planned(*settings, **choices)
    base, adapter = locate(made.source.base), made.source.adapter
    assert adapter
    siblings = {name: Source(locate(ref.base)) for name, ref in made.siblings.items()}
    data = datasets.load(made.recipe.trigger, made.trigger), datasets.load(made.recipe.elicit, made.elicit)
    return ExtractionContext(
        made.recipe,
        Source(base, locate(adapter)),
        Source(locate(made.target.base)),
        None,
        *data,
        None,
        QUIET,
        siblings=siblings,
    )


def whole(other: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    return other - own


def quick(workspace: Path, *settings: str, **choices: Any) -> Adapter:
    choices = {"method": "feature-diff"} | choices
    return extract("tina-tiny", workspace=workspace, settings=[*SMALL, *settings], progress=QUIET, **choices)[0]
