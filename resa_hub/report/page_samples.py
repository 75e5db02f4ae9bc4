"""The samples that a page embeds, and the sentence that says which."""

import base64
import gzip
import json
from collections.abc import Sequence
from typing import Any

from .number_words import short
from .report_data import EmbeddedSamples, ReportEntry


def payload(entries: Sequence[ReportEntry]) -> str:
    """base64 of gzip of JSON, which the page's script reads; empty where there are no samples."""
    shown = [_evaluation(entry, entry.browser) for entry in entries if entry.browser and entry.browser.rows]
    if not shown:
        return ""
    text = json.dumps(shown, ensure_ascii=False, separators=(",", ":"))
    # mtime=0: the same report gives the same file.
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _evaluation(entry: ReportEntry, samples: EmbeddedSamples) -> dict[str, Any]:
    """one, two: the arms that are shown beside each other at first."""
    d, roles = entry.document, {arm.name: arm.role for arm in entry.document.arms}
    adapters = [number for number, name in enumerate(samples.arms) if roles.get(name) == "adapter"]
    return {
        "title": f"{d.adapter} on {d.target}, {d.benchmark}",
        "arms": [short(name, d) for name in samples.arms],
        "one": 0,
        "two": adapters[0] if adapters else len(samples.arms) - 1,
        "rows": samples.rows,
    }


def sentence(entries: Sequence[ReportEntry]) -> str:
    """Which samples are on the page and which were left out."""
    embedded = [entry.browser for entry in entries if entry.browser and entry.browser.rows]
    if not embedded:
        reasons = sorted({entry.unseen or "they were not asked for" for entry in entries})
        return f"No samples are on this page: {'; '.join(reasons)}."
    shown, total = sum(len(samples.rows) for samples in embedded), sum(entry.document.problems for entry in entries)
    completions = sum(len(cell) for samples in embedded for _, _, cells in samples.rows for cell in cells)
    which, left_out = "all", ""
    if total > shown:
        which = "the first"
        left_out = f"; the other {total - shown:,} were left out to bound the size of this file (see --samples)"
    return (
        f"Here are {which} {shown:,} of {total:,} problems in the order of the benchmark, {completions:,} "
        f"completions of all arms{left_out}."
    )
