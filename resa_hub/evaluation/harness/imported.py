"""`eval --import`: our verdict on the logs of other tools, one file an arm: `base=FILE adapter=FILE source=FILE
random-1=FILE`.

An imported verdict is not kept beside an adapter: nothing in a log proves which weights it was made with. `eval
--harness` runs the arms itself and keeps it.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from ...adapter.results import ImportedArmResult, ImportedEvaluation
from ...core.errors import Usage
from ..arms import BASE, RANDOM, SOURCE
from ..statistics import Interval, average
from ..verdict import AdapterArm, Verdict, judge, verdict_fields
from . import tool_logs

ADAPTER = "adapter"
TRIO = (BASE, SOURCE, ADAPTER)
"""Every other arm is a control."""


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


def external(imported: Imported, **about: Any) -> ImportedEvaluation:
    """The document of a verdict on logs; about: what the logs do not tell. Scores in percent; lengths and what was cut
    are not known.
    """
    unknown = dict.fromkeys(("lenient", "tokens", "truncated"))
    arms = [
        ImportedArmResult(
            name=_full_name(arm.name, about["adapter"]),
            role=arm.name if arm.name in TRIO else RANDOM,
            metric=arm.metric,
            score=arm.score,
            score_ci=arm.score_ci,
            **unknown,
        )
        for arm in imported.arms
    ]
    return ImportedEvaluation(
        **about,
        problems=imported.problems,
        samples=imported.samples,
        temperature=None,
        arms=arms,
        notes=imported.notes,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        **verdict_fields(imported.verdict),
    )


def _full_name(arm: str, adapter: str) -> str:
    return {BASE: BASE, SOURCE: SOURCE, ADAPTER: adapter}.get(arm, f"{adapter} {arm}")


def judge_logs(files: Sequence[str], metric: str | None = None) -> Imported:
    """files: `arm=path` each; base and adapter are needed, every arm beside source is a control. Raises `Usage` for
    arms that answered other problems.
    """
    logs = {name: tool_logs.read(path, metric) for name, path in _paths(files).items()}
    metrics = {log.metric for log in logs.values()}
    if len(metrics) > 1:
        raise Usage(
            f"the logs were graded by different metrics: {', '.join(sorted(metrics))}", "name one with --metric"
        )
    problems, samples = _common(logs)
    scores = {name: [log.results[problem][:samples] for problem in problems] for name, log in logs.items()}
    controls = {name: table for name, table in scores.items() if name not in TRIO}
    verdict = judge(scores[BASE], scores.get(SOURCE), AdapterArm(scores[ADAPTER], controls))
    arms = [_arm(name, log, average(scores[name])) for name, log in logs.items()]
    return Imported(problems=len(problems), samples=samples, verdict=verdict, arms=arms, notes=_notes(logs, samples))


def _paths(files: Sequence[str]) -> dict[str, Path]:
    """arm -> file, of `arm=path` each; raises `Usage` where one is missing or named twice."""
    paths = dict(_named(text) for text in files)
    if len(paths) != len(files):
        raise Usage("an arm is named twice", "one file for each arm: base=FILE adapter=FILE")
    if missing := {BASE, ADAPTER} - paths.keys():
        raise Usage(
            f"no log for {' and '.join(sorted(missing))}",
            "--import base=FILE --import adapter=FILE, and source=FILE or controls such as random-1=FILE",
        )
    return paths


def _named(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    if not path:
        raise Usage(f"{text!r} names no arm", "write arm=FILE, for example base=samples_gsm8k.jsonl")
    return name, Path(path).expanduser()


def _common(logs: Mapping[str, tool_logs.Log]) -> tuple[list[str], int]:
    """The problems, equal in all arms, and the samples that each has at least."""
    base = logs[BASE].results
    for name, log in logs.items():
        if others := log.results.keys() ^ base.keys():
            raise Usage(
                f"{name} and base answered different problems: {len(others)} stand in one of them only",
                "run both on the same task and limit",
            )
    return sorted(base), min(len(results) for log in logs.values() for results in log.results.values())


def _notes(logs: Mapping[str, tool_logs.Log], samples: int) -> list[str]:
    """What a reader of the verdict has to know besides; samples: how many of each problem are compared."""
    notes = [
        f"{name}: {log.dropped} samples are neither right nor wrong and count as wrong"
        for name, log in logs.items()
        if log.dropped
    ]
    if any(len(results) > samples for log in logs.values() for results in log.results.values()):
        notes.append(f"some arms have more than {samples} samples a problem; the first {samples} are compared")
    notes.append("the tools do not share random numbers between arms: differences are noisier than those of `eval`")
    return notes


def _arm(name: str, log: tool_logs.Log, score: Interval) -> ImportedArm:
    return ImportedArm(
        name=name,
        tool=log.tool,
        metric=log.metric,
        score=100 * score.value,
        score_ci=(100 * score.low, 100 * score.high),
        dropped=log.dropped,
    )
