"""`eval --import`: our verdict on the logs of other tools, one file an arm: `base=FILE adapter=FILE source=FILE
random-1=FILE`.

An imported verdict is not kept beside an adapter: nothing in a log proves which weights it was made with. `eval
--harness` runs the arms itself and keeps it.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from ...adapter.results import ImportedEvaluation
from ...core.errors import Usage
from ..statistics import Interval, average
from ..verdict import AdapterArm, Verdict, judge, verdict_fields
from . import tool_logs

BASE, SOURCE, ADAPTER = "base", "source", "adapter"


class ImportedArm(msgspec.Struct, frozen=True):
    name: str
    tool: str
    metric: str
    score: float
    score_ci: tuple[float, float]
    """Percent."""
    dropped: int
    """Samples whose result was neither right nor wrong."""


class Imported(msgspec.Struct, frozen=True):
    problems: int
    samples: int
    verdict: Verdict
    arms: list[ImportedArm]
    notes: list[str]


def external(found: Imported, **about: Any) -> ImportedEvaluation:
    """The document of a verdict on logs; about: what the logs do not tell. Scores in percent; lengths and what was cut
    are not known.
    """
    unknown = dict.fromkeys(("lenient", "tokens", "unfinished"))
    arms = [
        {
            "name": _full(arm.name, about["adapter"]),
            "role": "random" if arm.name not in (BASE, SOURCE, ADAPTER) else arm.name,
            "metric": arm.metric,
            "score": arm.score,
            "score_ci": arm.score_ci,
            **unknown,
        }
        for arm in found.arms
    ]
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return ImportedEvaluation(
        **about,
        problems=found.problems,
        samples=found.samples,
        temperature=None,
        arms=arms,
        notes=found.notes,
        created=created,
        **verdict_fields(found.verdict),
    )


def _full(name: str, adapter: str) -> str:
    return {BASE: BASE, SOURCE: SOURCE, ADAPTER: adapter}.get(name, f"{adapter} {name}")


def judge_logs(files: Sequence[str], metric: str | None = None) -> Imported:
    """files: `arm=path` each; base and adapter are needed, every arm beside source is a control. Raises `Usage` for
    arms that answered other problems.
    """
    paths = dict(_named(text) for text in files)
    if len(paths) != len(files):
        raise Usage("an arm is named twice", "one file for each arm: base=FILE adapter=FILE")
    if missing := {BASE, ADAPTER} - paths.keys():
        raise Usage(
            f"no log for {' and '.join(sorted(missing))}",
            "--import base=FILE --import adapter=FILE, and source=FILE or controls such as random-1=FILE",
        )
    found = {name: tool_logs.read(path, metric) for name, path in paths.items()}
    notes = [
        f"{name}: {log.dropped} samples are neither right nor wrong and count as wrong"
        for name, log in found.items()
        if log.dropped
    ]
    if len(metrics := {log.metric for log in found.values()}) > 1:
        raise Usage(
            f"the logs were graded by different metrics: {', '.join(sorted(metrics))}", "name one with --metric"
        )
    problems, samples = _common(found)
    scores = {name: [log.results[problem][:samples] for problem in problems] for name, log in found.items()}
    if any(len(row) > samples for log in found.values() for row in log.results.values()):
        notes.append(f"some arms have more than {samples} samples a problem; the first {samples} are compared")
    controls = {name: scores[name] for name in scores if name not in (BASE, SOURCE, ADAPTER)}
    verdict = judge(scores[BASE], scores.get(SOURCE), AdapterArm(scores[ADAPTER], controls))
    notes.append("the tools do not share random numbers between arms: differences are noisier than those of `eval`")
    arms = [
        ImportedArm(name, log.tool, log.metric, *_percent(average(scores[name])), log.dropped)
        for name, log in found.items()
    ]
    return Imported(len(problems), samples, verdict, arms, notes)


def _named(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    if not path:
        raise Usage(f"{text!r} names no arm", "write arm=FILE, for example base=samples_gsm8k.jsonl")
    return name, Path(path).expanduser()


def _common(found: dict[str, tool_logs.Log]) -> tuple[list[str], int]:
    """The problems, equal in all arms, and the samples that each has at least."""
    base = found[BASE].results
    for name, log in found.items():
        if others := log.results.keys() ^ base.keys():
            raise Usage(
                f"{name} and base answered different problems: {len(others)} stand in one of them only",
                "run both on the same task and limit",
            )
    return sorted(base), min(len(row) for log in found.values() for row in log.results.values())


def _percent(score: Interval) -> tuple[float, tuple[float, float]]:
    return 100 * score.value, (100 * score.low, 100 * score.high)
