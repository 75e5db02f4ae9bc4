"""The report as one HTML file that loads nothing: words first, then every arm, flips, lengths, settings and the
samples.

What strangers wrote (manifests, documents, models) is escaped by the template, never marked safe; only SVG built here
is. A Content-Security-Policy admits the page's own style and script by their hash and nothing else, so no text could
run even if it got through.
"""

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import charts
from .data import ArmSeen, Document, Report, ReportEntry, Seen
from .words import drawn, minus, number, plainly, points, pvalue, short, span

TEMPLATES = Path(__file__).parent / "templates"
MANY = 6
"""Evaluations beyond which the numbers of each verdict are folded away."""
LEVELS = 4
"""Shades of the heat map on either side."""
SIGNIFICANT = 0.05
STAGES = ("rollouts", "sae", "adapter", "total")
ROLES = ("base", "source", "source-model", "adapter", "random")
TONES = {"transferred": "good", "harmful": "bad"}
WORDS = {
    "identical to base": "no logit of the model changes.",
    "harmful": "worse than base and than every control by more than the margin.",
    "source gain not identifiable": (
        "the source's own gain over base cannot be told from 0, so there is nothing to transfer."
    ),
    "transferred": "better than base and than every control by more than the margin. Never given without a control.",
    "underpowered": "the interval of the gain is wider than the margin, or there are fewer than 8 problems.",
    "not distinguishable from controls": "everything else.",
}


def page(report: Report) -> str:
    """The whole file as text."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= FILTERS
    css, script = (Markup((TEMPLATES / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js"))
    entries = [_entry(entry) for entry in report.entries]
    for place, entry in enumerate(entries):
        if any(entry["d"].content_hash == earlier["d"].content_hash for earlier in entries[:place]):
            entry["making"] = {}  # it stands with the first evaluation of this adapter
    curves = [{"curve": curve, "svg": Markup(charts.layers(curve))} for curve in report.curves]
    return environment.get_template("page.html.jinja").render(
        MANY=MANY,
        title=_title(report),
        subtitle=_subtitle(report),
        policy=_policy(css, script),
        css=css,
        script=script,
        words=WORDS,
        entries=entries,
        curves=curves,
        heat=_heat(report.entries),
        payload=_payload(report.entries),
        embedded=_embedded(report.entries),
        version=report.version,
        created=report.created,
        left_out=report.left_out,
    )


def _policy(css: str, script: str) -> str:
    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; style-src {digest(css)}; script-src {digest(script)}; img-src data:; base-uri "
        "'none'; form-action 'none'"
    )


def _title(report: Report) -> str:
    first = report.entries[0].document
    if len(report.entries) == 1:
        return f"{first.verdict}: {first.adapter} on {first.target}, {first.benchmark}"
    return f"{len(report.entries)} evaluations by resa-hub"


def _subtitle(report: Report) -> str:
    if len(report.entries) > 1:
        adapters, targets = ({getattr(e.document, key) for e in report.entries} for key in ("adapter", "target"))
        return (
            f"{_count(len(report.entries), 'evaluation')} of {_count(len(adapters), 'adapter')} on "
            f"{_count(len(targets), 'model')}."
        )
    entry = report.entries[0]
    made = f", made by {entry.method} from {entry.source}" if entry.method else ""
    return f"{entry.document.adapter}{made}, put on {entry.document.target} and judged on {entry.document.benchmark}."


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _role(role: str) -> str:
    return role if role in ROLES else "other"


def _entry(entry: ReportEntry) -> dict[str, Any]:
    d = entry.document
    base = d.arm("base")
    line = base.score if base else None
    scale = charts.arms_scale(d.arms, entry.published)
    rules = charts.rule_scale(d.comparisons, d.contrasts, d.margin) if d.comparisons or d.contrasts else None
    arms = [
        {
            "label": short(arm.name, d),
            "role": _role(arm.role),
            "score": arm.score,
            "ci": arm.score_ci,
            "lenient": arm.lenient,
            "unfinished": arm.unfinished,
            "tokens": arm.tokens,
            "svg": _safe(charts.arm_row(scale, arm, _role(arm.role), line)),
        }
        for arm in d.arms
    ]
    published = [
        {
            "label": p.label,
            "source": p.source,
            "score": p.score,
            "ci": p.score_ci,
            "svg": _safe(charts.arm_row(scale, p, _role(p.role), line)),
        }
        for p in entry.published
    ]
    return {
        "d": d,
        "tone": TONES.get(d.verdict, ""),
        "word": d.verdict[:1].upper() + d.verdict[1:] + ".",
        "warnings": entry.warnings,
        "arms": arms,
        "published": published,
        "arms_axis": _safe(charts.axis(scale)),
        "rules": _rules(d, rules) if rules else [],
        "rules_axis": _safe(charts.axis(rules, signed=True)) if rules else "",
        "settings": entry.settings,
        "making": entry.making,
        "costs": _costs(entry),
        "unseen": entry.unseen,
        **_seen(entry),
    }


def _rules(d: Document, scale: charts.Scale) -> list[dict[str, Any]]:
    """Adapter minus every other arm: those that decide, then those that are only shown."""
    deciding = [
        {
            "against": short(c.against, d),
            "value": 100 * c.value,
            "ci": (100 * c.low, 100 * c.high),
            "decides": True,
            "svg": _safe(charts.rule_row(scale, c, d.margin)),
        }
        for c in d.comparisons
    ]
    return deciding + [
        {
            "against": short(c.against, d),
            "value": c.value,
            "ci": (c.low, c.high),
            "decides": False,
            "svg": _safe(charts.contrast_row(scale, c)),
        }
        for c in d.contrasts
    ]


def _seen(entry: ReportEntry) -> dict[str, Any]:
    seen, d = entry.seen, entry.document
    if seen is None:
        return {"flips": [], "formats": []}
    rows = {arm.name: arm for arm in d.arms}
    others = [arm for arm in seen.arms if rows[arm.name].role != "base"]
    scale = charts.flips_scale(others)
    most = max(max(arm.right) for arm in seen.arms), max(max(arm.wrong) for arm in seen.arms)
    drawn = {"adapter", "source", "source-model"}
    first_control = next((arm.name for arm in others if rows[arm.name].role == "random"), None)
    flips = [
        {
            "label": short(arm.name, d),
            "role": _role(rows[arm.name].role),
            "gained": arm.gained,
            "lost": arm.lost,
            "svg": _safe(charts.flip_row(scale, arm)),
            "strip": _safe(charts.problems_strip(arm.changes))
            if rows[arm.name].role in drawn or arm.name == first_control
            else "",
            **_sides(arm),
        }
        for arm in others
    ]
    formats = [
        {
            "label": short(arm.name, d),
            "role": _role(rows[arm.name].role),
            "score": rows[arm.name].score,
            "lenient": rows[arm.name].lenient,
            "among_finished": arm.among_finished,
            "finished": arm.finished,
            "closed": arm.closed,
            "boxed": arm.boxed,
            "tokens": arm.tokens / arm.completions,
            "svg": _safe(charts.lengths(arm, most)),
        }
        for arm in seen.arms
    ]
    return {
        "flips": flips,
        "flips_axis": _safe(charts.axis(scale, signed=True)),
        "formats": formats,
        "format_sentence": _format_sentence(entry),
        "notes": _notes(seen, d),
        "shortest": seen.edges[0],
        "longest": seen.edges[-1] - 1,
    }


def _notes(seen: Seen, d: Document) -> str:
    """What the grading says of completions besides right and wrong."""
    found = [
        f"{short(arm.name, d)}: {', '.join(f'{count:,} {note}' for note, count in sorted(arm.notes.items()))}"
        for arm in seen.arms
        if arm.notes
    ]
    return f"Graded with reservations, and not right where in doubt: {'; '.join(found)}." if found else ""


def _sides(arm: ArmSeen) -> dict[str, int]:
    up, down = sum(c > 0 for c in arm.changes), sum(c < 0 for c in arm.changes)
    return {"up": up, "down": down, "same": len(arm.changes) - up - down}


def _format_sentence(entry: ReportEntry) -> str:
    """The gain beside the gain among finished completions."""
    d, seen = entry.document, entry.seen
    arms = {d.arm(role): role for role in ("base", "adapter")}
    found = {
        arms[row]: arm
        for row in arms
        for arm in (seen.arms if seen else ())
        if row is not None and arm.name == row.name
    }
    base, adapter = found.get("base"), found.get("adapter")
    if not base or not adapter or base.among_finished is None or adapter.among_finished is None:
        return ""
    among = 100 * (adapter.among_finished - base.among_finished)
    return (
        f"Here the gain is {points(d.gain)} points over all completions and {points(among)} among those that "
        "were finished."
    )


def _costs(entry: ReportEntry) -> list[tuple[str, str]]:
    d, seen, making = entry.document, entry.seen, entry.making
    completions = d.problems * d.samples * len(d.arms)
    drawn = f"{completions:,} completions in {_count(len(d.arms), 'arm')}"
    if seen:
        drawn += f", {seen.tokens:,} tokens drawn"
    costs = [
        ("the evaluation's answers", drawn),
        ("the evaluation's last run", f"{d.seconds:,.1f} s; answers that existed already were not drawn again"),
    ]
    engine = {
        key.partition(".")[2]: plainly(value) for key, value in entry.settings.items() if key.startswith("engine.")
    }
    costs += (
        [("the evaluation's engine", ", ".join(f"{key} {value}" for key, value in engine.items()))] if engine else []
    )
    prompts = {arm.prompts for arm in d.arms if arm.prompts and arm.role != "prompt-only"}
    costs += (
        [
            (
                "the prompts",
                f"the same tokens in all arms, {next(iter(prompts))}"
                if len(prompts) == 1
                else "NOT the same in all arms",
            )
        ]
        if prompts
        else []
    )
    stages = {match[1] for key in making if (match := re.fullmatch(r"run\.costs\.([^.]+)\.seconds", key))}
    for stage in sorted(stages, key=lambda stage: (STAGES.index(stage) if stage in STAGES else 0, stage)):
        what = "the extraction, all of it" if stage == "total" else f"the extraction: {stage}"
        costs.append(
            (
                what,
                _cost(
                    {
                        key: making.get(f"run.costs.{stage}.{key}")
                        for key in ("seconds", "tokens", "operations", "memory", "gpu_memory", "joules")
                    }
                ),
            )
        )
    if "run.hardware" in making:
        costs.append(("the extraction's machine", str(making["run.hardware"])))
    for key, what in (("run.usd", "the extraction's price"), ("run.source_usd", "the training of its source")):
        if making.get(key) is not None:
            costs.append((what, f"${making[key]:,.2f}"))
    return costs


def _cost(cost: dict[str, Any]) -> str:
    parts = [f"{cost['seconds']:,.1f} s"]
    parts += [f"{cost['tokens']:,} tokens"] if cost["tokens"] else []
    parts += [f"about {cost['operations'] / 1e12:,.3g} TFLOP"] if cost["operations"] else []
    parts += [
        f"{value / 1e6:,.0f} MB {place}"
        for place, value in (("of memory", cost["memory"]), ("on the GPU", cost["gpu_memory"]))
        if value
    ]
    parts += [f"{cost['joules']:,.0f} J"] if cost["joules"] is not None else []
    return ", ".join(parts)


def _heat(entries: Sequence[ReportEntry]) -> dict[str, Any] | None:
    """Adapter x target; None where there is a single evaluation. Significance is Holm's over all cells
    (`p_over_cells`).
    """
    if len(entries) < 2:
        return None
    cells: dict[tuple[str, str], dict[tuple[str, str], ReportEntry]] = {}
    anchors = {id(entry): f"e{number}" for number, entry in enumerate(entries, 1)}
    for row, column, entry in ((*entry.cell, entry) for entry in entries):
        cells.setdefault(row, {})[column] = entry
    kept = [entry for row in cells.values() for entry in row.values()]
    most = max(1e-9, *(abs(entry.document.gain) for entry in kept))

    def cell(entry: ReportEntry) -> dict[str, Any]:
        d = entry.document
        significant = entry.p_over_cells is not None and entry.p_over_cells < SIGNIFICANT
        kind = "flat"
        if significant:
            level = max(1, round(LEVELS * abs(d.gain) / most))
            kind = f"{'up' if d.gain > 0 else 'down'}{level}"
        return {"id": anchors[id(entry)], "gain": d.gain, "word": d.verdict, "kind": kind}

    columns = sorted({column for row in cells.values() for column in row})
    rows = [
        {
            "source": source,
            "adapter": adapter,
            "cells": [cell(row[column]) if column in row else None for column in columns],
        }
        for (source, adapter), row in sorted(cells.items())
    ]
    return {"columns": columns, "rows": rows, "tests": len(kept)}


def _payload(entries: Sequence[ReportEntry]) -> str:
    """The embedded samples: base64 of gzip of JSON; empty where there are none."""
    found = []
    for entry in entries:
        if entry.browser and entry.browser.rows:
            d, roles = entry.document, {arm.name: arm.role for arm in entry.document.arms}
            names = list(entry.browser.arms)
            second = next((i for i, name in enumerate(names) if roles.get(name) == "adapter"), len(names) - 1)
            title = f"{d.adapter} on {d.target}, {d.benchmark}"
            found.append(
                {
                    "title": title,
                    "arms": [short(name, d) for name in names],
                    "one": 0,
                    "two": second,
                    "rows": entry.browser.rows,
                }
            )
    if not found:
        return ""
    text = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _embedded(entries: Sequence[ReportEntry]) -> str:
    """What of the samples is on the page and what was left out."""
    browsers = [entry.browser for entry in entries if entry.browser and entry.browser.rows]
    if not browsers:
        reasons = sorted({entry.unseen or "they were not asked for" for entry in entries})
        return f"No samples are on this page: {'; '.join(reasons)}."
    shown, total = sum(len(b.rows) for b in browsers), sum(entry.document.problems for entry in entries)
    completions = sum(len(cell) for b in browsers for _, _, cells in b.rows for cell in cells)
    left = (
        f"; the other {total - shown:,} were left out to bound the size of this file (see --samples)"
        if total > shown
        else ""
    )
    first = "the first " if total > shown else "all "
    return (
        f"Here are {first}{shown:,} of {total:,} problems in the order of the benchmark, {completions:,} "
        f"completions of all arms{left}."
    )


def _safe(svg: str) -> Any:
    """Only for SVG made by `charts`, which escapes what it is given."""
    from markupsafe import Markup

    return Markup(svg)


FILTERS = {
    "minus": minus,
    "number": number,
    "drawn": drawn,
    "points": points,
    "span": span,
    "plainly": plainly,
    "pvalue": pvalue,
    "plainspan": lambda pair: f"[{pair[0]:.1f}, {pair[1]:.1f}]",
    "percents": lambda pair: minus(f"[{100 * pair[0]:.0f}%, {100 * pair[1]:.0f}%]"),
}
