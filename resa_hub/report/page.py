"""The report as one HTML file that loads nothing: words first, then every arm, flips, lengths, settings and the
samples.

What strangers wrote (manifests, documents, models) is escaped by the template, never marked safe; only SVG built here
is. A Content-Security-Policy admits the page's own style and script by their hash and nothing else, so no text could
run even if it got through.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.quantities import count
from .heat_map import heat_map
from .number_words import drawn, interval, minus, plainly, points, pvalue, span
from .page_entry import curve, overview, page_entry
from .page_samples import payload, sentence
from .report_data import Report, ReportEntry

TEMPLATES = Path(__file__).parent / "templates"
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
        title=_title(report),
        headline=_headline(report.entries),
        subtitle=_subtitle(report),
        overview=overview(report.entries),
        uses=_uses(report.entries),
        policy=_policy(css, script),
        css=css,
        script=script,
        words=WORDS,
        entries=_entries(report.entries),
        curves=[curve(sweep) for sweep in report.curves],
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


def _headline(entries: Sequence[ReportEntry]) -> str:
    """`2 of 40 transferred; 1 harmful.`"""
    counts = Counter(entry.document.verdict for entry in entries)
    harm = f"; {counts['harmful']} harmful" if counts["harmful"] else ""
    return f"{counts['transferred'] or 'None'} of {len(entries)} transferred{harm}."


def _uses(entries: Sequence[ReportEntry]) -> list[dict[str, Any]]:
    """What to do with each adapter that is known here, and where it transferred."""
    known = {entry.document.adapter: entry for entry in entries if entry.use}
    transferred: dict[str, list[str]] = {name: [] for name in known}
    for d in (entry.document for entry in entries):
        if d.verdict == "transferred" and d.adapter in known:
            transferred[d.adapter].append(f"{d.target}, {d.benchmark}")
    return [
        {"adapter": name, "snippets": entry.use, "license": entry.license, "transferred": transferred[name]}
        for name, entry in known.items()
    ]


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
    if len(documents) == 1:
        entry = report.entries[0]
        return f"{documents[0].adapter} was made by {entry.method} from {entry.source}." if entry.method else ""
    counts = Counter(d.verdict for d in documents if d.verdict not in ("transferred", "harmful"))
    others = "".join(f"{number} {verdict}. " for verdict, number in counts.items())
    adapters, targets = len({d.adapter for d in documents}), len({d.target for d in documents})
    return (
        f"{others}{count(len(documents), 'evaluation')} of {count(adapters, 'adapter')} on {count(targets, 'model')}."
    )
