"""Adapters x models x benchmarks, a table a benchmark."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..output import Output
from . import page as report

if TYPE_CHECKING:
    from ...adapter.store import Adapter
    from ...evaluation.matrix import Matrix


def planned(out: Output, adapters: Sequence["Adapter"], targets: Sequence[str], benchmarks: Sequence[str]) -> None:
    """The cells of a run that was not started."""
    references = [adapter.manifest.reference for adapter in adapters]
    cells = [[reference, target, name] for reference in references for target in targets for name in benchmarks]
    if not out.data({"cells": cells}, str(len(cells))):
        out.table(["adapter", "target", "benchmark"], cells)


def show(out: Output, matrix: "Matrix", as_markdown: bool, page: Path | None) -> None:
    import msgspec

    from ...evaluation.matrix import markdown, worded

    if out.data(msgspec.to_builtins(matrix), "\n".join(cell.verdict for cell in matrix.cells)):
        return
    if as_markdown:
        out.text(markdown(matrix))
        return
    words = {(cell.adapter, cell.target, cell.benchmark): worded(cell) for cell in matrix.cells}
    for name in matrix.benchmarks:
        rows = [[adapter, *(words[adapter, target, name] for target in matrix.targets)] for adapter in matrix.adapters]
        out.table([name, *matrix.targets], rows)
    out.text("gain over base in points; * p < 0.05 for any difference from base, corrected by Holm over all cells")
    out.hint(f"kept in {matrix.file}")
    if page and not matrix.evaluations:
        out.text(f"{page} was not written: no adapter fits a target")
    else:
        report.tell(out, page)
