"""Which evaluations a report holds: read from the store and from files, with what is known about each."""

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ..adapter.results import Evaluation, Sweep, in_current_words, read_evaluation, read_sweep
from ..adapter.store import Adapter
from ..adapter.workspace import Workspace, WorkspaceLike
from ..config.refs import AdapterRef
from ..core.errors import HubError, NotFound, Usage
from ..core.files import read_json
from ..core.safe_text import plain
from ..hub.resolve import resolve_adapter
from ..report.report_data import Report, ReportEntry
from . import statistics
from .report_entries import EMBEDDED_SAMPLES, report_entry


class ReportQuery(msgspec.Struct, frozen=True):
    """Which evaluations, and how much of them."""

    names: Sequence[str] = ()
    """NAME or NAME@VERSION of the store, or files that `eval --json`, `matrix` or `sweep` wrote; everything of the
    store when empty.
    """
    target: str | None = None
    benchmark: str | None = None
    samples: int = EMBEDDED_SAMPLES
    published: Sequence[str] = ()
    """Names of published results to draw beside; those of adapter, source and target are drawn by themselves."""

    def matches(self, document: dict[str, Any]) -> bool:
        """Whether target and benchmark are those asked for."""
        return self.target in (None, document["target"]) and self.benchmark in (None, document["benchmark"])


class _Collected(NamedTuple):
    documents: list[tuple[dict[str, Any], Adapter | None]]
    """(raw document, its adapter where the store has it)."""
    curves: list[Sweep]
    left_out: list[str]


def collect_report(query: ReportQuery, workspace: WorkspaceLike = None) -> Report:
    """The data of a report; raises `NotFound` when nothing was judged, `Integrity` for a broken file that was named,
    `Usage`.
    """
    workspace = Workspace.find(workspace)
    if query.samples < 0:
        raise Usage("--samples is a count", "--samples 2000, or --samples none")
    collected = _collect(query, workspace)
    documents = [(raw, adapter) for raw, adapter in collected.documents if query.matches(raw)]
    if not documents:
        raise _nothing(query, collected)
    entries = [report_entry(raw, adapter, query.samples, query.published, workspace) for raw, adapter in documents]
    adapters = {entry.document.adapter for entry in entries}
    curves = [*collected.curves, *_sweeps_of(adapters, workspace, collected.curves)]
    return _report(entries, curves, collected.left_out)


def report_of(evaluations: Sequence[Evaluation], workspace: Workspace) -> Report:
    """The report of evaluations that were just made."""
    entries = [
        report_entry(msgspec.to_builtins(e), _adapter(e.adapter, workspace), EMBEDDED_SAMPLES, (), workspace)
        for e in evaluations
    ]
    return _report(entries, [], [])


def corrected(entries: list[ReportEntry]) -> list[ReportEntry]:
    """The same with Holm's correction over all cells; of two documents of one cell the later counts."""
    cells = {entry.cell: entry for entry in entries}
    if len(cells) < 2:
        return entries
    p_values = dict(zip(cells, statistics.holm([entry.document.p for entry in cells.values()]), strict=True))
    return [msgspec.structs.replace(entry, p_over_cells=p_values[entry.cell]) for entry in entries]


def _report(entries: list[ReportEntry], curves: list[Sweep], left_out: list[str]) -> Report:
    try:
        installed = version("resa-hub")
    except PackageNotFoundError:
        installed = ""
    return Report(
        entries=corrected(entries),
        curves=curves,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=installed,
        left_out=[plain(line) for line in left_out],
    )


def _collect(query: ReportQuery, workspace: Workspace) -> _Collected:
    collected = _Collected([], [], [])
    for name in query.names:
        if name.endswith(".json"):
            _read_file(Path(name).expanduser(), workspace, collected)
        else:
            _read_adapter(name, workspace, collected)
    if query.names:
        return collected
    # Of a whole store, what cannot be read is named in the report instead of ending it.
    for name in workspace.store.names():
        try:
            _read_adapter(name, workspace, collected)
        except HubError as error:
            named = error.message.startswith(name)
            collected.left_out.append(error.message if named else f"{name}: {error.message}")
    return collected


def _nothing(query: ReportQuery, collected: _Collected) -> HubError:
    """The error of a query that no evaluation answers."""
    if collected.curves:
        return Usage(
            "a curve over layers alone is no report",
            "name an adapter or an evaluation beside it; `sweep` drew the curve as PNG",
        )
    options = [f"--{key} {value}" for key, value in (("target", query.target), ("benchmark", query.benchmark)) if value]
    condition = f" with {' and '.join(options)}" if options else ""
    return NotFound(f"nothing was judged{condition}", "judge an adapter first: resa-hub eval NAME --target TARGET")


def _read_adapter(name: str, workspace: Workspace, collected: _Collected) -> None:
    """Add the evaluations beside an adapter; one that cannot be read is named in `left_out`."""
    adapter = resolve_adapter(name, workspace)
    paths = sorted((adapter.folder / "evals").glob("*.json"))
    if not paths:
        raise NotFound(
            f"{adapter.manifest.reference} was not judged yet", f"resa-hub eval {adapter.manifest.name} --target TARGET"
        )
    for path in paths:
        try:
            raw = in_current_words(read_json(path))
            read_evaluation(raw, path.name)
            collected.documents.append((raw, adapter))
        except HubError as error:
            collected.left_out.append(f"{adapter.manifest.reference}: {error.message}")


def _read_file(path: Path, workspace: Workspace, collected: _Collected) -> None:
    """Add evaluations and sweeps of a file that a person named; raises `Integrity` where it is broken."""
    for part in _parts(read_json(path), path.name):
        if "places" in part:
            collected.curves.append(read_sweep(part, path.name))
            continue
        raw = in_current_words(part)
        collected.documents.append((raw, _adapter(read_evaluation(raw, path.name).adapter, workspace)))


def _parts(content: Any, where: str) -> list[dict[str, Any]]:
    """A file holds one document, or several under `evaluations`."""
    parts = content.get("evaluations", [content]) if isinstance(content, dict) else content
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise Usage(f"{where} holds no evaluation", "name a file that `resa-hub eval --json` or `resa-hub sweep` wrote")
    return parts


def _adapter(reference: str, workspace: Workspace) -> Adapter | None:
    try:
        return workspace.store.get(AdapterRef.parse(reference))
    except HubError:
        return None


def _sweeps_of(adapters: set[str], workspace: Workspace, present: Sequence[Sweep]) -> list[Sweep]:
    """Sweeps of this workspace that hold one of the adapters and are not present yet."""
    sweeps = []
    for path in sorted((workspace.cache / "sweeps").glob("*.json")):
        try:
            sweep = read_sweep(read_json(path), path.name)
        except HubError:
            continue
        if sweep not in present and {place.adapter for place in sweep.places} & adapters:
            sweeps.append(sweep)
    return sweeps
