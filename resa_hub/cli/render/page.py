"""`--page`: the report that several commands write beside their answer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..output import Output


def check(page: Path | None) -> None:
    """Raise `Usage` or `NotFound` unless a report can be written there: before hours of work, not after."""
    if page:
        from ...report import formats

        formats.check(page)


def write(results: Sequence[Any], workspace: Any, page: Path | None) -> None:
    """The report of evaluations that were just made."""
    if page and results:
        from ...evaluation.reports import report_of
        from ...report import formats

        formats.write(report_of(results, workspace), page)


def tell(out: Output, page: Path | None) -> None:
    """Its path and size."""
    if page:
        out.text(f"{page}  {page.stat().st_size / 1e3:,.0f} kB")
