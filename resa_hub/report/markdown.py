"""The report as Markdown, and the lines of a model card. Texts of strangers are escaped: neither markup nor HTML comes
from them.
"""

import re
from collections.abc import Sequence
from typing import Any

from .data import Document, Report
from .words import drawn, interval, minus, number, plainly, points, pvalue, short, span


def escape(text: object) -> str:
    """One line in which nothing is markup."""
    line = " ".join(str(text).split())
    line = re.sub(r"([\\`*_|~])", r"\\\1", line).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"\](?=[(\[])", r"\\]", line)


def card(documents: Sequence[tuple[Document, str]]) -> str:
    """What a model card says: for each (document, plot's path or nothing) the verdict in words, the numbers it rests
    on, the plot.
    """
    return "\n\n".join(
        "\n\n".join(_verdict(d) + ([f"![{escape(_alternative(d))}]({plot})"] if plot else [])) for d, plot in documents
    )


def markdown(report: Report) -> str:
    """The whole report: verdicts, arms, comparisons, what the samples tell, settings."""
    parts = ["# Did the reasoning transfer?"]
    for entry in report.entries:
        d = entry.document
        parts += [
            f"## {escape(d.adapter)} on {escape(d.target)}, {escape(d.benchmark)} ({escape(d.split)})",
            *_verdict(d),
        ]
        parts += [f"Mind: {escape(warning)}" for warning in entry.warnings]
        rows = [
            [
                escape(short(a.name, d)),
                number(a.score),
                interval(a.score_ci),
                number(a.lenient),
                number(a.unfinished),
                number(a.tokens),
            ]
            for a in d.arms
        ]
        parts.append(_table(["arm", "right, %", "95%", "leniently, %", "cut, %", "tokens"], rows))
        if entry.published:
            rows = [[escape(p.label), number(p.score), interval(p.score_ci), escape(p.source)] for p in entry.published]
            parts += [
                "Published by others, one sample a problem where an interval is given:",
                _table(["result", "right, %", "95%", "source"], rows),
            ]
        if d.comparisons:
            parts.append(
                _table(
                    ["adapter minus", "points", "95%", "corrected bounds"],
                    [
                        [
                            escape(short(c.against, d)),
                            points(100 * c.value),
                            span((100 * c.low, 100 * c.high)),
                            span((100 * c.bound_low_holm, 100 * c.bound_high_holm)),
                        ]
                        for c in d.comparisons
                    ],
                )
            )
        if entry.seen:
            rows = [
                [
                    escape(short(s.name, d)),
                    f"{s.gained:,}",
                    f"{s.lost:,}",
                    number(None if s.among_finished is None else 100 * s.among_finished),
                    number(100 * s.closed),
                    number(100 * (1 - s.boxed)),
                ]
                for s in entry.seen.arms
            ]
            parts.append(
                _table(
                    [
                        "arm",
                        "wrong to right",
                        "right to wrong",
                        "right among finished, %",
                        "think closed, %",
                        "no answer in the format, %",
                    ],
                    rows,
                )
            )
        settings = _table(
            ["setting", "value"],
            [[escape(key), escape(plainly(value))] for key, value in entry.settings.items() if key != "sentence"],
        )
        parts.append(f"<details>\n<summary>settings and hashes</summary>\n\n{settings}\n\n</details>")
    for curve in report.curves:
        parts += [
            f"## Layers: {escape(curve.method)} from {escape(curve.source)} on {escape(curve.target)}",
            escape(minus(curve.sentence)),
        ]
        rows = [
            [
                str(p.layer),
                str(p.seed),
                points(p.gain),
                span(p.gain_ci),
                " ".join(map(points, p.controls)),
                escape(p.verdict),
            ]
            for p in curve.places
        ]
        parts.append(_table(["layer", "seed", "gain", "95%", "controls", "verdict"], rows))
    parts += [f"Left out: {escape(line)}." for line in report.left_out]
    return "\n\n".join(parts) + "\n"


def _verdict(d: Document) -> list[str]:
    numbers = [f"{d.problems:,} problems x {d.samples} samples {escape(drawn(d))}", f"margin {d.margin:.1f} points"]
    if d.base_over_source is not None and d.adapter_over_source is not None:
        numbers.append(f"base/source {d.base_over_source:.0%} beside adapter/source {d.adapter_over_source:.0%}")
    if d.p_holm is not None:
        numbers.append(f"p (Holm) {pvalue(d.p_holm)}".replace("<", "&lt;"))
    return [
        f"- **{escape(d.verdict)}** on {escape(d.target)}, {escape(d.benchmark)}: {escape(minus(d.sentence))}  "
        f"\n  {'; '.join(numbers)}."
    ]


def _alternative(d: Document) -> str:
    scores = ", ".join(f"{short(arm.name, d)} {arm.score:.1f}%" for arm in d.arms[:8])
    return f"All arms: {scores}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
