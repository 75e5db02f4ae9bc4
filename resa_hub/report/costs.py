"""What an evaluation and the extraction of its adapter took, as rows of a table."""

import re
from typing import Any

from ..core.quantities import amount, count, dollars, duration, size
from .number_words import plainly
from .report_data import ReportEntry

STAGES = ("rollouts", "sae", "adapter", "total")
SHORT = 19
"""Characters of a digest: `sha256:` and twelve digits."""
PRICES = (("run.usd", "the extraction's price"), ("run.source_usd", "the training of its source"))


def costs(entry: ReportEntry) -> list[tuple[str, str]]:
    """(what, what it took) each."""
    return [*_of_evaluation(entry), *_of_extraction(entry.making)]


def _of_evaluation(entry: ReportEntry) -> list[tuple[str, str]]:
    d, seen = entry.document, entry.seen
    answers = f"{d.problems * d.samples * len(d.arms):,} completions in {count(len(d.arms), 'arm')}"
    if seen:
        answers += f", {seen.tokens:,} tokens drawn"
    rows = [
        ("the evaluation's answers", answers),
        ("the evaluation's last run", f"{duration(d.seconds)}; answers that existed already were not drawn again"),
    ]
    engine = [(key, value) for key, value in entry.settings.items() if key.startswith("engine.")]
    if engine:
        named = ", ".join(f"{key.removeprefix('engine.')} {plainly(value)}" for key, value in engine)
        rows.append(("the evaluation's engine", named))
    # The arm prompt-only differs by its prompts alone.
    prompts = {arm.prompts for arm in d.arms if arm.prompts and arm.role != "prompt-only"}
    if prompts:
        same = f"the same tokens in all arms, {next(iter(prompts))[:SHORT]}"
        rows.append(("the prompts", same if len(prompts) == 1 else "NOT the same in all arms"))
    return rows


def _of_extraction(making: dict[str, Any]) -> list[tuple[str, str]]:
    """making: the adapter's manifest, flattened."""
    stages = {match[1] for key in making if (match := re.fullmatch(r"run\.costs\.([^.]+)\.seconds", key))}
    rows = []
    for stage in sorted(stages, key=lambda stage: (STAGES.index(stage) if stage in STAGES else 0, stage)):
        prefix = f"run.costs.{stage}."
        cost = {key.removeprefix(prefix): value for key, value in making.items() if key.startswith(prefix)}
        what = "the extraction, all of it" if stage == "total" else f"the extraction: {stage}"
        rows.append((what, _stage(cost)))
    if "run.hardware" in making:
        rows.append(("the extraction's machine", str(making["run.hardware"])))
    rows += [(what, dollars(making[key])) for key, what in PRICES if making.get(key) is not None]
    return rows


def _stage(cost: dict[str, Any]) -> str:
    """`12 s, 3,000 tokens, about 1.2 TFLOP, 500 MB of memory`; what was not measured is left out."""
    parts = [duration(cost["seconds"])]
    if cost.get("tokens"):
        parts.append(f"{cost['tokens']:,} tokens")
    if cost.get("operations"):
        parts.append(f"about {amount(cost['operations'], 'FLOP')}")
    for key, place in (("memory", "of memory"), ("gpu_memory", "on the GPU")):
        if cost.get(key):
            parts.append(f"{size(cost[key])} {place}")
    if cost.get("joules") is not None:
        parts.append(amount(cost["joules"], "J"))
    return ", ".join(parts)
