"""A report as a file: a page, Markdown or JSON."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..adapter.results import AnyEvaluation
from ..core.errors import NotFound, RunFailed, Usage
from .report_data import Report

FORMS = (".html", ".md", ".json")
# The JSON of a report tells of a document what a page draws; its other fields stand among the settings.
DOCUMENT = (
    "adapter", "target", "benchmark", "split", "problems", "samples", "verdict", "sentence", "gain", "gain_ci",
    "margin", "arms", "comparisons", "content_hash", "fit", "temperature", "harness", "seed", "problem_seed", "p",
    "gain_ci_same_problems", "retained", "retained_ci", "source_gain", "source_gain_ci", "base_over_source",
    "adapter_over_source", "created", "seconds", "contrasts", "notes",
)  # fmt: skip
ARM = ("name", "role", "score", "score_ci", "lenient", "greedy", "tokens", "truncated", "prompts", "samples")
CONTRAST = ("against", "value", "low", "high")
SWEEP = (
    "method", "source", "target", "benchmark", "split", "problems", "samples", "places", "sentence", "source_gain",
)  # fmt: skip


def default_name(report: Report) -> str:
    """`report-NAME.html` for one adapter, else `report.html`."""
    names = {entry.document.adapter.partition("@")[0] for entry in report.entries}
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", names.pop())[:80] if len(names) == 1 else ""
    return f"report-{stem}.html" if stem else "report.html"


def check(path: Path, option: str = "--out") -> None:
    """Raise `Usage` or `NotFound` unless a report can be written there. option: by which the path is given."""
    if path.suffix not in FORMS:
        raise Usage(
            f"a report is written as {', '.join(FORMS)}, not as {path.suffix or path.name!r}", f"{option} report.html"
        )
    if path.is_dir() or not path.parent.is_dir():
        reason = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise NotFound(f"{path} cannot be written: {reason}", "name another file")


def write(report: Report, path: Path) -> None:
    """In the form that the suffix names; all or nothing. Raises the errors of `check`."""
    check(path)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        staged.write_text(rendered(report, path.suffix), encoding="utf-8")
        os.replace(staged, path)
    except OSError as error:
        raise RunFailed(f"cannot write {path}: {error.strerror}", "choose another file") from None
    finally:
        staged.unlink(missing_ok=True)


def rendered(report: Report, form: str) -> str:
    """The whole file as text; `form` is one of `FORMS`."""
    if form == ".html":
        from .page import page

        return page(report)
    if form == ".md":
        from .markdown import markdown

        return markdown(report)
    return msgspec.json.format(msgspec.json.encode(_fields(report)), indent=2).decode() + "\n"


def _fields(report: Report) -> dict[str, Any]:
    entries = [msgspec.structs.asdict(entry) | {"document": _document(entry.document)} for entry in report.entries]
    curves = [_pick(curve, SWEEP) for curve in report.curves]
    return msgspec.structs.asdict(report) | {"entries": entries, "curves": curves}


def _document(document: AnyEvaluation) -> dict[str, Any]:
    arms = [_pick(arm, ARM) for arm in document.arms]
    contrasts = [_pick(contrast, CONTRAST) for contrast in document.contrasts]
    return _pick(document, DOCUMENT) | {"arms": arms, "contrasts": contrasts}


def _pick(struct: Any, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in names}
