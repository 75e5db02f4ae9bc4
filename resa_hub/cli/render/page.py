"""The page of `report`, and `--page`, by which other commands write one beside their answer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core.quantities import size
from ..output import Output


def check(page: Path | None) -> None:
    """Raise `Usage` or `NotFound` unless a report can be written there: before hours of work, not after."""
    if page:
        from ...report import write_report as formats

        formats.check(page, "--page")


def write(results: Sequence[Any], workspace: Any, page: Path | None) -> None:
    """The report of evaluations that were just made."""
    if page and results:
        from ...evaluation.reports import report_of
        from ...report import write_report as formats

        formats.write(report_of(results, workspace), page)


def tell(out: Output, page: Path | None) -> None:
    """What was written, and how large it is."""
    if page:
        out.text(f"wrote {page} ({size(page.stat().st_size)})")


def write_report(out: Output, report: Any, path: Path | None) -> None:
    """report: `report.data.Report`. path: by default one that its adapter names."""
    from ...report import write_report as formats

    path = path or Path(formats.default_name(report))
    formats.write(report, path)
    documents = [entry.document for entry in report.entries]
    verdicts = [{"adapter": d.adapter, "target": d.target, "verdict": d.verdict} for d in documents]
    if out.data({"page": str(path), "bytes": path.stat().st_size, "evaluations": verdicts}, str(path)):
        return
    for d in documents:
        out.text(f"{d.verdict}: {d.adapter} on {d.target}, {d.benchmark}")
    for line in report.left_out:
        out.hint(f"left out: {line}")
    tell(out, path)
