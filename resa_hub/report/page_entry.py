"""One evaluation as the page's template needs it: texts, numbers and pictures."""

from collections.abc import Sequence
from typing import Any

from ..adapter.results import AnyEvaluation, ArmResult, Sweep
from ..core.tones import tone
from . import charts
from .costs import costs
from .number_words import number, points, retained, short, span
from .report_data import ArmStatistics, ReportEntry, SampleStatistics

ROLES = ("base", "source", "source-model", "adapter", "random")
"""Those that the style has a colour for."""
DOCUMENT_COLUMNS = ("right, %", "read leniently, %", "cut by the budget, %", "mean length, tokens")
SAMPLES_COLUMNS = (
    "right, %",
    "read leniently, %",
    "right among finished, %",
    "cut by the budget, %",
    "</think> closed, %",
    "no answer in the format, %",
    "mean length, tokens",
)


def page_entry(entry: ReportEntry) -> dict[str, Any]:
    d = entry.document
    return {
        "d": d,
        "tone": tone(d.verdict),
        "word": word(d.verdict),
        "warnings": entry.warnings,
        "remarks": entry.remarks,
        "settings": entry.settings,
        "making": entry.making,
        "costs": costs(entry),
        "unseen": entry.unseen,
        **_arms(entry),
        **_differences(d),
        **_samples(entry),
    }


def word(verdict: str) -> str:
    """`Transferred.`"""
    return verdict[:1].upper() + verdict[1:] + "."


def overview(entries: Sequence[ReportEntry]) -> list[dict[str, Any]]:
    """A row an evaluation: its verdict in a line."""
    return [
        {
            "d": d,
            "tone": tone(d.verdict),
            "verdict": word(d.verdict).removesuffix("."),
            "on": f"{d.target}, {d.benchmark} ({d.split})",
            "numbers": [
                ("gain, points", points(d.gain)),
                ("95%", span(d.gain_ci)),
                ("retained", retained(d)),
            ],
        }
        for d in (entry.document for entry in entries)
    ]


def safe(svg: str) -> Any:
    """Only for SVG made by `charts`, which escapes what it is given."""
    from markupsafe import Markup

    return Markup(svg)


def _role(role: str) -> str:
    return role if role in ROLES else "other"


def _arms(entry: ReportEntry) -> dict[str, Any]:
    """All arms on one scale, then published scores."""
    d = entry.document
    base = d.arm("base")
    line = base.score if base else None
    scale = charts.arms_scale(d.arms, entry.published)
    arms = [
        {
            "label": short(arm.name, d),
            "role": _role(arm.role),
            "score": arm.score,
            "ci": arm.score_ci,
            "lenient": arm.lenient,
            "truncated": arm.truncated,
            "tokens": arm.tokens,
            "svg": safe(charts.arm_row(scale, arm, _role(arm.role), line)),
        }
        for arm in d.arms
    ]
    published = [
        {
            "label": p.label,
            "source": p.source,
            "score": p.score,
            "ci": p.score_ci,
            "svg": safe(charts.arm_row(scale, p, _role(p.role), line)),
        }
        for p in entry.published
    ]
    return {"arms": arms, "published": published, "arms_axis": safe(charts.axis(scale))}


def _differences(d: AnyEvaluation) -> dict[str, Any]:
    """Adapter minus every other arm: those that decide, then those that are only shown."""
    if not d.comparisons and not d.contrasts:
        return {"rules": [], "rules_axis": ""}
    scale = charts.rule_scale(d.comparisons, d.contrasts, d.margin)
    deciding = [
        {
            "against": short(c.against, d),
            "value": 100 * c.value,
            "ci": (100 * c.low, 100 * c.high),
            "decides": True,
            "svg": safe(charts.rule_row(scale, c, d.margin)),
        }
        for c in d.comparisons
    ]
    shown = [
        {
            "against": short(c.against, d),
            "value": c.value,
            "ci": (c.low, c.high),
            "decides": False,
            "svg": safe(charts.contrast_row(scale, c)),
        }
        for c in d.contrasts
    ]
    return {"rules": deciding + shown, "rules_axis": safe(charts.axis(scale, signed=True))}


def curve(sweep: Sweep) -> dict[str, Any]:
    """A sweep: its picture and its numbers."""
    columns = ("layer", "seed", "gain, points", "95%", "controls", "verdict")
    rows = [
        (
            "",
            p.adapter,
            [str(p.layer), str(p.seed), points(p.gain), span(p.gain_ci), " ".join(map(points, p.controls)), p.verdict],
        )
        for p in sweep.places
    ]
    return {"curve": sweep, "svg": safe(charts.layers(sweep)), "table": _table(columns, rows)}


def _samples(entry: ReportEntry) -> dict[str, Any]:
    """What the samples tell: flips, lengths and format."""
    seen, d = entry.seen, entry.document
    if seen is None:
        rows = [
            (
                _role(arm.role),
                short(arm.name, d),
                [number(arm.score), *map(number, (arm.lenient, arm.truncated, arm.tokens))],
            )
            for arm in d.arms
        ]
        return {"flips": [], "lengths": [], "formats": _table(DOCUMENT_COLUMNS, rows)}
    rows = {arm.name: arm for arm in d.arms}
    others = [arm for arm in seen.arms if rows[arm.name].role != "base"]
    scale = charts.flips_scale(others)
    most = max(max(arm.right) for arm in seen.arms), max(max(arm.wrong) for arm in seen.arms)
    striped = [arm.name for arm in others if rows[arm.name].role in ("adapter", "source", "source-model")]
    # Of the controls only the first is shown problem by problem: they look alike.
    striped += [arm.name for arm in others if rows[arm.name].role == "random"][:1]
    return {
        "flips": [_flips(arm, rows[arm.name], d, scale, arm.name in striped) for arm in others],
        "flips_axis": safe(charts.axis(scale, signed=True)),
        "formats": _table(SAMPLES_COLUMNS, [_format_row(arm, rows[arm.name], d) for arm in seen.arms]),
        "lengths": [{"label": short(arm.name, d), "svg": safe(charts.lengths(arm, most))} for arm in seen.arms],
        "format_sentence": _format_sentence(d, seen),
        "notes": _notes(seen, d),
        "shortest": seen.edges[0],
        "longest": seen.edges[-1] - 1,
    }


def _flips(arm: ArmStatistics, row: ArmResult, d: AnyEvaluation, scale: charts.Scale, strip: bool) -> dict[str, Any]:
    up, down = sum(c > 0 for c in arm.changes), sum(c < 0 for c in arm.changes)
    return {
        "label": short(arm.name, d),
        "role": _role(row.role),
        "gained": arm.gained,
        "lost": arm.lost,
        "svg": safe(charts.flip_row(scale, arm)),
        "strip": safe(charts.problems_strip(arm.changes)) if strip else "",
        "up": up,
        "down": down,
        "same": len(arm.changes) - up - down,
    }


def _format_row(arm: ArmStatistics, row: ArmResult, d: AnyEvaluation) -> tuple[str, str, list[str]]:
    among = None if arm.among_finished is None else 100 * arm.among_finished
    shares = (row.score, row.lenient, among, 100 * (1 - arm.finished), 100 * arm.closed, 100 * (1 - arm.boxed))
    return _role(row.role), short(arm.name, d), [*map(number, shares), number(arm.tokens / arm.completions)]


def _table(columns: Sequence[str], rows: Sequence[tuple[str, str, list[str]]]) -> dict[str, Any]:
    """rows: (role, label, a text for each column)."""
    shown = [
        {"role": role, "label": label, "cells": list(zip(columns, cells, strict=True))} for role, label, cells in rows
    ]
    return {"columns": columns, "rows": shown}


def _format_sentence(d: AnyEvaluation, seen: SampleStatistics) -> str:
    """The gain beside the gain among finished completions; empty where there is none to give."""
    shares = {arm.name: arm.among_finished for arm in seen.arms}
    base, adapter = (shares.get(row.name) if row else None for row in (d.arm("base"), d.arm("adapter")))
    if base is None or adapter is None:
        return ""
    among = 100 * (adapter - base)
    return (
        f"Here the gain is {points(d.gain)} points over all completions and {points(among)} among those that "
        "were finished."
    )


def _notes(seen: SampleStatistics, d: AnyEvaluation) -> str:
    """What the grading says of completions besides right and wrong."""
    lines = []
    for arm in seen.arms:
        if arm.notes:
            counts = ", ".join(f"{count:,} {note}" for note, count in sorted(arm.notes.items()))
            lines.append(f"{short(arm.name, d)}: {counts}")
    return f"Graded with reservations, and not right where in doubt: {'; '.join(lines)}." if lines else ""
