"""The report as Markdown, and the lines of a model card. Texts of strangers are escaped: neither markup nor HTML comes
from them.
"""

import re
from collections.abc import Sequence
from typing import Any

from ..adapter.results import AnyEvaluation, Sweep
from .number_words import drawn, interval, minus, number, plainly, points, pvalue, short, span
from .report_data import Report, ReportEntry


def escape(text: object) -> str:
    """One line in which nothing is markup."""
    line = " ".join(str(text).split())
    line = re.sub(r"([\\`*_|~])", r"\\\1", line).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"\](?=[(\[])", r"\\]", line)


def card(evaluations: Sequence[tuple[AnyEvaluation, str]]) -> str:
    """What a model card says: of each (evaluation, plot's path or nothing) the verdict in words, the numbers it rests
    on, the plot.
    """
    parts = []
    for d, plot in evaluations:
        parts.append(_verdict(d))
        if plot:
            parts.append(f"![{escape(_alternative(d))}]({plot})")
    return "\n\n".join(parts)


def markdown(report: Report) -> str:
    """The whole report: verdicts, arms, comparisons, what the samples tell, settings."""
    parts = ["# Did the reasoning transfer?"]
    for entry in report.entries:
        parts += _entry(entry)
    for sweep in report.curves:
        parts += _sweep(sweep)
    parts += [f"Left out: {escape(line)}." for line in report.left_out]
    return "\n\n".join(parts) + "\n"


def _entry(entry: ReportEntry) -> list[str]:
    d = entry.document
    parts = [f"## {escape(d.adapter)} on {escape(d.target)}, {escape(d.benchmark)} ({escape(d.split)})", _verdict(d)]
    parts += [f"Mind: {escape(warning)}" for warning in entry.warnings]
    parts.append(_arms(d))
    if entry.published:
        parts += ["Published by others, one sample a problem where an interval is given:", _published(entry)]
    if d.comparisons:
        parts.append(_comparisons(d))
    if entry.seen:
        parts.append(_samples(entry))
    rows = [[escape(key), escape(plainly(value))] for key, value in entry.settings.items() if key != "sentence"]
    settings = _table(["setting", "value"], rows)
    parts.append(f"<details>\n<summary>settings and hashes</summary>\n\n{settings}\n\n</details>")
    return parts


def _verdict(d: AnyEvaluation) -> str:
    numbers = [f"{d.problems:,} problems x {d.samples} samples {escape(drawn(d))}", f"margin {d.margin:.1f} points"]
    if d.base_over_source is not None and d.adapter_over_source is not None:
        numbers.append(f"base/source {d.base_over_source:.0%} beside adapter/source {d.adapter_over_source:.0%}")
    if d.p_holm is not None:
        numbers.append(f"p (Holm) {pvalue(d.p_holm)}".replace("<", "&lt;"))
    return (
        f"- **{escape(d.verdict)}** on {escape(d.target)}, {escape(d.benchmark)}: {escape(minus(d.sentence))}  "
        f"\n  {'; '.join(numbers)}."
    )


def _alternative(d: AnyEvaluation) -> str:
    """The text in place of the plot."""
    scores = ", ".join(f"{short(arm.name, d)} {arm.score:.1f}%" for arm in d.arms[:8])
    return f"All arms: {scores}"


def _arms(d: AnyEvaluation) -> str:
    rows = [
        [
            escape(short(arm.name, d)),
            number(arm.score),
            interval(arm.score_ci),
            number(arm.lenient),
            number(arm.truncated),
            number(arm.tokens),
        ]
        for arm in d.arms
    ]
    return _table(["arm", "right, %", "95%", "leniently, %", "cut, %", "tokens"], rows)


def _published(entry: ReportEntry) -> str:
    rows = [[escape(p.label), number(p.score), interval(p.score_ci), escape(p.source)] for p in entry.published]
    return _table(["result", "right, %", "95%", "source"], rows)


def _comparisons(d: AnyEvaluation) -> str:
    rows = [
        [
            escape(short(c.against, d)),
            points(100 * c.value),
            span((100 * c.low, 100 * c.high)),
            span((100 * c.bound_low_holm, 100 * c.bound_high_holm)),
        ]
        for c in d.comparisons
    ]
    return _table(["adapter minus", "points", "95%", "corrected bounds"], rows)


def _samples(entry: ReportEntry) -> str:
    columns = ["arm", "wrong to right", "right to wrong", "right among finished, %", "think closed, %"]
    rows = [
        [
            escape(short(arm.name, entry.document)),
            f"{arm.gained:,}",
            f"{arm.lost:,}",
            number(None if arm.among_finished is None else 100 * arm.among_finished),
            number(100 * arm.closed),
            number(100 * (1 - arm.boxed)),
        ]
        for arm in (entry.seen.arms if entry.seen else ())
    ]
    return _table([*columns, "no answer in the format, %"], rows)


def _sweep(sweep: Sweep) -> list[str]:
    rows = [
        [
            str(p.layer),
            str(p.seed),
            points(p.gain),
            span(p.gain_ci),
            " ".join(map(points, p.controls)),
            escape(p.verdict),
        ]
        for p in sweep.places
    ]
    return [
        f"## Layers: {escape(sweep.method)} from {escape(sweep.source)} on {escape(sweep.target)}",
        escape(minus(sweep.sentence)),
        _table(["layer", "seed", "gain", "95%", "controls", "verdict"], rows),
    ]


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
