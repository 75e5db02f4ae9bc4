"""The report as one HTML file that loads nothing: words first, then every arm, flips, lengths, settings and the
samples.

What strangers wrote (manifests, documents, models) is escaped by the template, never marked safe; only SVG built here
is. A Content-Security-Policy admits the page's own style and script by their hash and nothing else, so no text could
run even if it got through.
"""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import charts
from .heat_map import heat_map
from .number_words import count, drawn, interval, minus, number, plainly, points, pvalue, span
from .page_entry import page_entry, safe
from .page_samples import payload, sentence
from .report_data import Report, ReportEntry

TEMPLATES = Path(__file__).parent / "templates"
MANY = 6
"""Evaluations beyond which the numbers of each verdict are folded away."""
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
FILTERS = {
    "minus": minus,
    "number": number,
    "drawn": drawn,
    "points": points,
    "span": span,
    "plainly": plainly,
    "pvalue": pvalue,
    "plainspan": interval,
    "percents": lambda pair: minus(f"[{100 * pair[0]:.0f}%, {100 * pair[1]:.0f}%]"),
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
    return environment.get_template("page.html.jinja").render(
        MANY=MANY,
        title=_title(report),
        subtitle=_subtitle(report),
        policy=_policy(css, script),
        css=css,
        script=script,
        words=WORDS,
        entries=_entries(report.entries),
        curves=[{"curve": sweep, "svg": safe(charts.layers(sweep))} for sweep in report.curves],
        heat=heat_map(report.entries),
        payload=payload(report.entries),
        embedded=sentence(report.entries),
        version=report.version,
        created=report.created,
        left_out=report.left_out,
    )


def _entries(entries: Sequence[ReportEntry]) -> list[dict[str, Any]]:
    """As the template needs them; how an adapter was made stands with the first evaluation of it alone."""
    shown, adapters = [], set()
    for entry in entries:
        making = {} if entry.document.content_hash in adapters else entry.making
        adapters.add(entry.document.content_hash)
        shown.append(page_entry(entry) | {"making": making})
    return shown


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
    documents = [entry.document for entry in report.entries]
    if len(documents) > 1:
        adapters, targets = len({d.adapter for d in documents}), len({d.target for d in documents})
        return f"{count(len(documents), 'evaluation')} of {count(adapters, 'adapter')} on {count(targets, 'model')}."
    entry, d = report.entries[0], documents[0]
    made = f", made by {entry.method} from {entry.source}" if entry.method else ""
    return f"{d.adapter}{made}, put on {d.target} and judged on {d.benchmark}."
