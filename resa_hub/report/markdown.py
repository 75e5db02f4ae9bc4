"""The report as Markdown, and the lines of a model card. Texts of strangers are escaped: neither markup nor HTML comes
from them.
"""

import html
import re
from collections.abc import Sequence
from typing import Any

from ..adapter.results import AnyEvaluation, Sweep
from .number_words import drawn, interval, minus, number, plainly, points, pvalue, retained, short, span
from .plot import WIDTH
from .report_data import Report, ReportEntry

MOST_PLOTS = 3
"""Of a card, unfolded."""


def escape(text: object) -> str:
    """One line in which nothing is markup."""
    line = " ".join(str(text).split())
    line = re.sub(r"([\\`*_|~])", r"\\\1", line).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"\](?=[(\[])", r"\\]", line)


def verdicts(evaluations: Sequence[AnyEvaluation]) -> str:
    """What a model card says first: of each evaluation the verdict in words and the numbers it rests on."""
    return "\n\n".join(map(_verdict, evaluations))


def plots(evaluations: Sequence[tuple[AnyEvaluation, str]]) -> str:
    """The plots of a model card, (evaluation, path of its plot or nothing) each; many are folded away."""
    pictures = [
        f'{escape(d.target)}, {escape(d.benchmark)} ({escape(d.split)}):\n\n<img src="{path}" width="{WIDTH}" '
        f'alt="{_html(_alternative(d))}">'
        for d, path in evaluations
        if path
    ]
    together = "\n\n".join(pictures)
    return _folded(f"{len(pictures)} plots", together) if len(pictures) > MOST_PLOTS else together


def markdown(report: Report) -> str:
    """The whole report: verdicts, what to do, arms, comparisons, what the samples tell, settings."""
    several = len(report.entries) > 1
    parts = ["# Did the reasoning transfer?"]
    parts.append(_overview(report.entries) if several else _verdict(report.entries[0].document))
    parts += _use(report.entries)
    parts += ["## Every evaluation"] if several else []
    for entry in report.entries:
        parts += _entry(entry, several)
    for sweep in report.curves:
        parts += _sweep(sweep)
    parts += [f"Left out: {escape(line)}." for line in report.left_out]
    return "\n\n".join(parts) + "\n"


def _overview(entries: Sequence[ReportEntry]) -> str:
    rows = [
        [
            f"**{escape(d.verdict)}**",
            escape(d.adapter),
            f"{escape(d.target)}, {escape(d.benchmark)} ({escape(d.split)})",
            points(d.gain),
            span(d.gain_ci),
            retained(d),
        ]
        for d in (entry.document for entry in entries)
    ]
    columns = ["verdict", "adapter", "on", "gain, points", "95%", "retained"]
    return _table(columns, rows, texts=3)


def _use(entries: Sequence[ReportEntry]) -> list[str]:
    """Once for each adapter that is known here."""
    known = {entry.document.adapter: entry for entry in entries if entry.use}
    parts = []
    for name, entry in known.items():
        lines = [f"{each.about}\n\n```{each.language}\n{each.code}\n```" for each in entry.use]
        body = "\n\n".join([*lines, escape(entry.license)])
        parts.append(_folded(_html(name), body) if len(known) > 1 else body)
    return ["## Use it", *parts] if parts else []


def _entry(entry: ReportEntry, several: bool) -> list[str]:
    d = entry.document
    parts = [_verdict(d)] if several else []
    parts += [f"Mind: {escape(warning)}" for warning in entry.warnings]
    parts.append(_arms(d))
    if entry.published:
        parts += ["Published by others, one sample a problem where an interval is given:", _published(entry)]
    if d.comparisons:
        parts.append(_comparisons(d))
    if entry.seen:
        parts.append(_samples(entry))
    parts += [f"Checked: {escape(remark)}" for remark in entry.remarks]
    rows = [[escape(key), escape(plainly(value))] for key, value in entry.settings.items() if key != "sentence"]
    parts.append(_folded("settings and hashes", _table(["setting", "value"], rows, texts=2)))
    heading = f"{d.adapter} on {d.target}, {d.benchmark} ({d.split})"
    if several:
        return [_folded(f"<strong>{_html(d.verdict)}</strong>: {_html(heading)}", "\n\n".join(parts))]
    return [f"## {escape(heading)}", *parts]


def _folded(summary: str, body: str) -> str:
    """summary: HTML."""
    return f"<details>\n<summary>{summary}</summary>\n\n{body}\n\n</details>"


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


def _html(text: str) -> str:
    """One line for HTML, also inside the double quotes of an attribute; no word of it looks like another attribute."""
    return html.escape(" ".join(text.split())).replace("=", "&#61;")


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]], texts: int = 1) -> str:
    """texts: columns of words, which come first; those of numbers end at the right."""
    lines = [columns, ["---"] * texts + ["---:"] * (len(columns) - texts), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
