"""`report`: evaluation documents, with what their samples and adapters tell, as a page, as Markdown, as JSON."""

import contextlib
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ..adapter.store import Adapter
from ..adapter.workspace import Workspace, WorkspaceLike
from ..config.recipe import Recipe
from ..config.refs import AdapterRef
from ..core.errors import HubError, NotFound, RunFailed, Usage
from ..core.files import read_json
from ..hub.resolve import find
from ..report import data
from ..report.data import Browser, Curve, Document, PublishedScore, Report, ReportEntry, Seen
from . import benchmarks, published, statistics
from .arms import BASE
from .benchmarks.base import GradedCompletion
from .sampling.samples import FILE, SampleStore

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
SAMPLES = 2_000
"""Completions of an evaluation that a page embeds."""
FORMS = (".html", ".md", ".json")


class ReportQuery(msgspec.Struct, frozen=True):
    """Which evaluations, and how much of them."""

    names: Sequence[str] = ()
    """NAME or NAME@VERSION of the store, or files that `eval --json`, `matrix` or `sweep` wrote; everything of the
    store when empty.
    """
    target: str | None = None
    benchmark: str | None = None
    samples: int = SAMPLES
    published: Sequence[str] = ()
    """Names of published results to draw beside; those of adapter, source and target are drawn by themselves."""


def collect_report(wish: ReportQuery, workspace: WorkspaceLike = None) -> Report:
    """The data of a report; raises `NotFound` when nothing was judged, `Integrity` for a broken file that was named,
    `Usage`.
    """
    workspace = Workspace.find(workspace)
    if wish.samples < 0:
        raise Usage("--samples is a count", "--samples 2000, or --samples none")
    found = _Found([], [], [])
    for name in wish.names:
        _read_file(Path(name).expanduser(), workspace, found) if name.endswith(".json") else _read_adapter(
            name, workspace, found
        )
    for name in () if wish.names else workspace.store.names():
        try:
            _read_adapter(name, workspace, found)
        except HubError as error:
            found.left_out.append(f"{name}: {error.message}")
    asked = [
        (raw, adapter)
        for raw, adapter in found.documents
        if wish.target in (None, raw["target"]) and wish.benchmark in (None, raw["benchmark"])
    ]
    if not asked and found.curves:
        raise Usage(
            "a curve over layers alone is no report",
            "name an adapter or an evaluation beside it; `sweep` drew the curve as PNG",
        )
    if not asked:
        what = " and ".join(
            f"--{key} {value}" for key, value in (("target", wish.target), ("benchmark", wish.benchmark)) if value
        )
        raise NotFound(
            f"nothing was judged{f' with {what}' if what else ''}",
            "judge an adapter first: resa-hub eval NAME --target TARGET",
        )
    entries = [_entry(raw, adapter, wish, workspace) for raw, adapter in asked]
    found.curves.extend(_curves_of({entry.document.adapter for entry in entries}, workspace, found.curves))
    return _report(entries, found.curves, found.left_out)


def _report(entries: list[ReportEntry], curves: list[Curve], left_out: list[str]) -> Report:
    return Report(
        corrected(entries),
        curves,
        datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        _version(),
        [data.plain(line) for line in left_out],
    )


def corrected(entries: list[ReportEntry]) -> list[ReportEntry]:
    """The same with Holm's correction over all cells; of two documents of one cell the later counts."""
    cells = {entry.cell: entry for entry in entries}
    if len(cells) < 2:
        return entries
    values = dict(zip(cells, statistics.holm([entry.document.p for entry in cells.values()]), strict=True))
    return [msgspec.structs.replace(entry, p_over_cells=values[entry.cell]) for entry in entries]


def report_of(results: Sequence[Any], wish: ReportQuery, workspace: Workspace) -> Report:
    """The report of evaluations that were just made."""
    entries = [
        _entry(msgspec.to_builtins(result), _adapter(result.adapter, workspace), wish, workspace) for result in results
    ]
    return _report(entries, [], [])


def check(path: Path) -> None:
    """Raise `Usage` or `NotFound` unless a report can be written there."""
    if path.suffix not in FORMS:
        raise Usage(
            f"a report is written as {', '.join(FORMS)}, not as {path.suffix or path.name!r}", "--out report.html"
        )
    if not path.parent.is_dir() or path.is_dir():
        raise NotFound(
            f"{path} cannot be written: {'it is a folder' if path.is_dir() else f'there is no folder {path.parent}'}",
            "name another file",
        )


def write(report: Report, path: Path) -> None:
    """In the form that the suffix names: a page, Markdown, or JSON; all or nothing. Raises the errors of `check`."""
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
    if form == ".html":
        from ..report.page import page

        return page(report)
    if form == ".md":
        from ..report.markdown import markdown

        return markdown(report)
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n"


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("resa-hub")
    except PackageNotFoundError:
        return ""


class _Found(NamedTuple):
    documents: list[tuple[dict, Adapter | None]]
    """(raw document, its adapter where the store has it)."""
    curves: list[Curve]
    left_out: list[str]


def _read_adapter(name: str, workspace: Workspace, found: _Found) -> None:
    """The evaluations beside an adapter; one that cannot be read is named."""
    adapter = find(name, workspace)
    paths = sorted((adapter.folder / "evals").glob("*.json"))
    if not paths:
        raise NotFound(
            f"{adapter.manifest.reference} was not judged yet", f"resa-hub eval {adapter.manifest.name} --target TARGET"
        )
    for path in paths:
        try:
            raw = read_json(path)
            data.document(raw, path.name)
            found.documents.append((raw, adapter))
        except HubError as error:
            found.left_out.append(f"{adapter.manifest.reference}: {error.message}")


def _read_file(path: Path, workspace: Workspace, found: _Found) -> None:
    """Evaluations and sweeps of a file that a person named; raises `Integrity` where it is broken."""
    for raw in _parts(read_json(path), path.name):
        if "places" in raw:
            found.curves.append(data.curve(raw, path.name))
        else:
            found.documents.append((raw, _adapter(data.document(raw, path.name).adapter, workspace)))


def _parts(content: Any, where: str) -> list[dict]:
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


def _entry(raw: dict, adapter: Adapter | None, wish: ReportQuery, workspace: Workspace) -> ReportEntry:
    found = data.document(raw, f"an evaluation of {str(raw.get('adapter'))[:80]}")
    seen, browser, unseen = _seen(found, wish, workspace)
    making, method, source, recipe = {}, "", "", None
    if adapter and adapter.manifest.content_hash == found.content_hash:
        manifest = msgspec.to_builtins(adapter.manifest)
        manifest["base"]["sketch"].pop("values", None)
        recipe = adapter.manifest.recipe
        making, method, source = (
            data.flat(manifest),
            adapter.manifest.method,
            data.plain(recipe.source if recipe else adapter.manifest.source),
        )
    return ReportEntry(
        document=found,
        settings=data.scalars(raw),
        making=making,
        source=source,
        method=method,
        seen=seen,
        unseen=unseen,
        browser=browser,
        published=_published(found, recipe, source, wish, workspace),
        warnings=_warnings(found),
    )


def _warnings(found: Document) -> list[str]:
    warnings = list(found.notes)
    if found.split == "dev":
        warnings.append(
            "this is a split for choosing (layers, checkpoints); what was chosen on it is not judged by it."
        )
    if not any(arm.role == "random" for arm in found.arms):
        warnings.append("no random control was run, so nothing here can be called transferred.")
    return warnings


def _seen(found: Document, wish: ReportQuery, workspace: Workspace) -> tuple[Seen | None, Browser | None, str]:
    """What the samples in this workspace tell, or why they tell nothing."""
    from ..report import observe

    if found.harness:
        return None, None, f"they are in the logs of {found.harness}"
    try:
        problems, tables = graded(found, workspace)
    except HubError as error:
        return None, None, error.message
    scores = {arm.name: arm.score for arm in found.arms}
    other = [name for name, table in tables.items() if abs(observe.score(table) - scores[name]) > 1e-6]
    if other or BASE not in tables:
        return (
            None,
            None,
            f"the samples in this workspace give other scores than the document for {', '.join(other) or BASE}",
        )
    browser = observe.browser(problems, tables, wish.samples) if wish.samples else None
    return observe.observe(tables, BASE), browser, "" if browser else "they were not asked for"


def graded(found: Document, workspace: Workspace) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """The problems as (question, gold answer), and for each arm of a document its graded samples, read from the
    workspace; nothing is generated.

    Raises `NotFound` where samples are missing, and what loading the benchmark raises.
    """
    from ..report.observe import Graded

    if not (workspace.cache / FILE).exists():
        raise NotFound("its samples are not in this workspace", "run the evaluation here: it keeps them")
    family = found.benchmark.partition("/")[0]
    if family not in workspace.registry.entries["benchmarks"]:  # a document of a stranger names no file of this machine
        raise NotFound(f"the benchmark {found.benchmark} is none of the registry", "add it to registry.yaml")
    benchmark = benchmarks.load(found.benchmark, workspace.registry)
    problems = benchmark.problems(found.split, found.problems, found.draw)
    keys = [(problem, number) for problem in problems for number in range(found.samples)]
    tables = {}
    with contextlib.closing(SampleStore(workspace.cache)) as store:
        for arm in found.arms:
            present = store.read(arm.samples, problems, found.samples) if DIGEST.fullmatch(arm.samples) else {}
            if len(present) < len(keys):
                raise NotFound(
                    f"samples of {arm.name} are missing from this workspace", "run the evaluation again: it keeps them"
                )
            samples = [present[problem.id, number] for problem, number in keys]
            grades = benchmark.grades(
                [
                    GradedCompletion(problem, sample.text, sample.finished)
                    for (problem, _), sample in zip(keys, samples, strict=True)
                ]
            )
            flat = [
                Graded(s.text, s.tokens, s.finished, bool(grade.strict), grade.note)
                for s, grade in zip(samples, grades, strict=True)
            ]
            tables[arm.name] = [flat[start : start + found.samples] for start in range(0, len(flat), found.samples)]
    return [(problem.question, problem.answer) for problem in problems], tables


def _published(
    found: Document, recipe: Recipe | None, source: str, wish: ReportQuery, workspace: Workspace
) -> list[PublishedScore]:
    """Published scores on this benchmark: of the adapter or its recipe, its source, its target, and whatever was asked
    for.
    """
    entries, problems = (
        workspace.registry.entries["published"],
        workspace.registry.entries["benchmarks"].get(found.benchmark),
    )
    own = published.entry_of(found.adapter.partition("@")[0], recipe, workspace.registry)
    results: dict[str, PublishedScore] = {}
    for role, name in [
        ("adapter", own[0] if own else ""),
        ("source", source),
        ("base", found.target),
        *(("other", name) for name in wish.published),
    ]:
        if name in wish.published:
            workspace.registry.get("published", name)  # a wrong name is said
        score = entries[name].value.scores.get(found.benchmark) if name in entries else None
        if score is not None and name not in results:
            entry, count = entries[name].value, problems.value.problems if problems else None
            results[name] = PublishedScore(
                name,
                role,
                score,
                published.wilson(score, count) if count and entry.samples == 1 else None,
                entry.source,
            )
    return list(results.values())


def _curves_of(adapters: set[str], workspace: Workspace, present: Sequence[Curve]) -> list[Curve]:
    """Sweeps of this workspace that hold one of the adapters."""
    found = []
    for path in sorted((workspace.cache / "sweeps").glob("*.json")):
        try:
            curve = data.curve(read_json(path), path.name)
        except HubError:
            continue
        if curve not in present and {place.adapter for place in curve.places} & adapters:
            found.append(curve)
    return found


def default_name(report: Report) -> str:
    """`report-NAME.html` for one adapter, else `report.html`."""
    names = {entry.document.adapter.partition("@")[0] for entry in report.entries}
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", names.pop())[:80] if len(names) == 1 else ""
    return f"report-{stem}.html" if stem else "report.html"
