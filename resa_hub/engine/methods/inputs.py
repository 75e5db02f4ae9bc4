"""What an extraction is given beside its recipe."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ...core.progress import Progress
from ...data.snapshots import Rows, SaeFiles
from ..cost_tracker import CostTracker
from ..model.loading import Source


class MethodInputs(NamedTuple):
    """The models and data that a recipe names, as files on this machine."""

    source: Source
    target: Source
    trigger: Rows
    """Texts of stage I."""
    elicit: Rows
    """Texts of stage II, and the questions of the rollouts."""
    template: str | None = None
    """Prompt template; None for the tokenizer's chat template, or the bare text."""
    siblings: Mapping[str, Source] = {}
    """By the names that the recipe gives them."""
    initial_saes: Mapping[str, SaeFiles] = {}
    """By hookpoint: what the SAE modes pretrained and finetuned start from."""
    reference: Path | None = None
    """Folder of the adapter whose norm the method `random` takes."""


class RunResources(NamedTuple):
    """Where an extraction reports, counts and keeps what it does, and how much it may take."""

    progress: Progress
    ledger: CostTracker
    """States and costs, kept over a kill where it has a folder."""
    rollouts_folder: Path | None = None
    """Rollouts shared by all extractions of a workspace; None keeps none."""
    memory: int | None = None
    """Bytes that the teacher's states may take; None for half of the free memory."""
    disk: int = 0
    """Bytes for activations that do not fit one buffer of stage I."""
