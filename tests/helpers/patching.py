"""Contexts and extractions of the methods that patch, small enough for tests."""

from pathlib import Path
from typing import Any

import torch

from resa_hub.adapter.store import Adapter
from resa_hub.config.registry import Registry
from resa_hub.core.progress import Progress
from resa_hub.data import datasets
from resa_hub.data.snapshots import locate
from resa_hub.engine.cost_tracker import CostTracker
from resa_hub.engine.methods.context import ExtractionContext
from resa_hub.engine.methods.inputs import MethodInputs, RunResources
from resa_hub.engine.model.loading import Source
from resa_hub.extraction.extract import extract
from resa_hub.extraction.plan import Plan, plan
from tests.conftest import QUICK

SMALL = [*QUICK, "rollouts.count=48", "elicit.rows=64"]
QUIET = Progress(quiet=True)


def planned(*settings: str, **choices: Any) -> Plan:
    choices = {"method": "feature-diff"} | choices
    return plan("tina-tiny", registry=Registry(), settings=[*SMALL, *settings], **choices)


def context_of(*settings: str, **choices: Any) -> ExtractionContext:
    """The context of an extraction of tina-tiny, in memory alone."""
    chosen = planned(*settings, **choices)
    recipe, adapter = chosen.recipe, chosen.source.adapter
    assert adapter
    inputs = MethodInputs(
        source=Source(locate(chosen.source.base), locate(adapter, "adapter")),
        target=Source(locate(chosen.target.base)),
        trigger=datasets.load(recipe.trigger, chosen.trigger),
        elicit=datasets.load(recipe.elicit, chosen.elicit),
        siblings={name: Source(locate(model.base)) for name, model in chosen.siblings.items()},
    )
    return ExtractionContext(recipe, inputs, RunResources(QUIET, CostTracker()))


def whole(source: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """The patch that makes the state the source's."""
    return source - reference


def quick(workspace: Path, *settings: str, **choices: Any) -> Adapter:
    choices = {"method": "feature-diff"} | choices
    return extract("tina-tiny", workspace=workspace, settings=[*SMALL, *settings], progress=QUIET, **choices)[0]
