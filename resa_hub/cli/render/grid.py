"""Adapters x models x benchmarks, a table a benchmark."""

from pathlib import Path
from typing import TYPE_CHECKING

from ..output import Output
from ..tables import Column
from . import estimated
from . import page as report
from .words import VERDICTS

if TYPE_CHECKING:
    from ...evaluation.matrix import Matrix
    from ...evaluation.matrix_plan import MatrixForecast


def planned(out: Output, told: "MatrixForecast", page: Path | None) -> None:
    """The cells of a run that was not started, and what they take."""
    seen = told.preview
    names = [*(adapter.manifest.reference for adapter in seen.adapters), *seen.elsewhere]
    cells = [[name, target, benchmark] for name in names for target in seen.targets for benchmark in seen.benchmarks]
    document = {"cells": cells, "missing": told.missing, "page": str(page) if page else None}
    if out.data(document | estimated.document(told.estimate, seen.left), str(len(cells))):
        return
    levels = {key: fit.level for key, fit in seen.fits.items()}
    rows = [[*cell, levels.get((cell[0], cell[1]), "?")] for cell in cells]
    out.table([Column("adapter", least=24), "target", "benchmark", "fit"], rows)
    out.text(f"to generate: {told.missing:,} answers, those left out that are there already")
    if page:
        out.text(f"report: would be written to {page}")
    out.text("")
    estimated.show(out, told.estimate, seen.left)
    out.hint("dry run: nothing was fetched or generated")


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
        out.table([Column(name, least=24), *(Column(target, words=VERDICTS) for target in matrix.targets)], rows)
    out.text("gain over base, points; * p < 0.05 for any difference from base, corrected by Holm over all cells")
    out.hint(f"kept in {matrix.file}")
    if page and not matrix.evaluations:
        out.text(f"{page} was not written: no adapter fits a target")
    else:
        report.tell(out, page)
