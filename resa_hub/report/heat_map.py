"""The map of a report over several evaluations: which adapter helps which model."""

from collections.abc import Sequence
from typing import Any

from .report_data import ReportEntry

LEVELS = 4
"""Shades on either side of grey."""
SIGNIFICANT = 0.05


def heat_map(entries: Sequence[ReportEntry]) -> dict[str, Any] | None:
    """Adapters down, targets across, as the template needs them; None where there is a single evaluation.

    Of two evaluations of one cell the later is shown.
    """
    if len(entries) < 2:
        return None
    rows: dict[tuple[str, str], dict[tuple[str, str], dict[str, Any]]] = {}
    shown = {entry.cell: (number, entry) for number, entry in enumerate(entries, 1)}
    largest = max(1e-9, *(abs(entry.document.gain) for _, entry in shown.values()))
    for (row, column), (number, entry) in shown.items():
        rows.setdefault(row, {})[column] = _cell(entry, f"e{number}", largest)
    columns = sorted({column for cells in rows.values() for column in cells})
    table = [
        {"source": source, "adapter": adapter, "cells": [cells.get(column) for column in columns]}
        for (source, adapter), cells in sorted(rows.items())
    ]
    return {"columns": columns, "rows": table, "tests": len(shown)}


def _cell(entry: ReportEntry, anchor: str, largest: float) -> dict[str, Any]:
    """Grey (`flat`) unless the gain is significant after Holm's correction over all cells."""
    d, kind = entry.document, "flat"
    if entry.p_over_cells is not None and entry.p_over_cells < SIGNIFICANT:
        level = max(1, round(LEVELS * abs(d.gain) / largest))
        kind = f"{'up' if d.gain > 0 else 'down'}{level}"
    return {"id": anchor, "gain": d.gain, "word": d.verdict, "kind": kind}
