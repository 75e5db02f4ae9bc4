"""One evaluation of a report: its document, with what its samples, its adapter and published scores tell."""

import contextlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from ..adapter import card, usage
from ..adapter.layout import CARD
from ..adapter.results import AnyEvaluation, ArmResult, read_evaluation, warnings_and_remarks
from ..adapter.store import Adapter
from ..adapter.workspace import Workspace
from ..config.recipe import Recipe
from ..core.errors import HubError, NotFound
from ..core.files import read_bounded
from ..core.safe_text import plain
from ..report import sample_statistics
from ..report.report_data import EmbeddedSamples, PublishedScore, ReportEntry, SampleStatistics, flat, scalars
from ..report.sample_statistics import Graded, Table
from . import benchmarks, published_scores
from .arms import BASE
from .benchmarks import asked_files
from .benchmarks.base import Benchmark, GradedCompletion, Problem
from .sampling.samples import FILE, SampleStore

EMBEDDED_SAMPLES = 2_000
"""Completions of an evaluation that a page embeds."""
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def report_entry(
    raw: dict[str, Any], adapter: Adapter | None, most: int, names: Sequence[str], workspace: Workspace
) -> ReportEntry:
    """raw: the document in today's words. most: completions to embed. names: published results that were asked for."""
    document = read_evaluation(raw, f"an evaluation of {str(raw.get('adapter'))[:80]}")
    samples = _samples(document, most, workspace)
    making, method, source, recipe, use, license_ = {}, "", "", None, [], ""
    if adapter and adapter.manifest.content_hash == document.content_hash:
        manifest = msgspec.to_builtins(adapter.manifest)
        manifest["base"]["sketch"].pop("values", None)
        recipe = adapter.manifest.recipe
        making, method = flat(manifest), adapter.manifest.method
        source = plain(recipe.source if recipe else adapter.manifest.source)
        use = usage.snippets(adapter.manifest, _place(adapter))
        license_ = plain(usage.license_sentence(adapter.manifest))
    return ReportEntry(
        document=document,
        settings=scalars(raw),
        making=making,
        source=source,
        method=method,
        warnings=_warnings(document),
        remarks=warnings_and_remarks(document.notes)[1],
        use=use,
        license=license_,
        seen=samples.statistics,
        unseen=samples.missing,
        browser=samples.embedded,
        published=_published(document, recipe, source, names, workspace),
    )


def _place(adapter: Adapter) -> str:
    """`owner/name` of the Hub where its card says that it lies there; empty where nothing says so."""
    try:
        return card.place_of(read_bounded(adapter.folder / CARD).decode(errors="replace"))
    except HubError:
        return ""


def _warnings(document: AnyEvaluation) -> list[str]:
    warnings, _ = warnings_and_remarks(document.notes)
    if document.split == "dev":
        warnings.append(
            "this is a split for choosing (layers, checkpoints); what was chosen on it is not judged by it."
        )
    if not document.arm("random"):
        warnings.append("no random control was run, so nothing here can be called transferred.")
    return warnings


class _Samples(NamedTuple):
    statistics: SampleStatistics | None = None
    embedded: EmbeddedSamples | None = None
    missing: str = ""
    """Why one of them is None."""


def _samples(document: AnyEvaluation, most: int, workspace: Workspace) -> _Samples:
    """What the samples in this workspace tell, or why they tell nothing."""
    if document.harness:
        return _Samples(missing=f"they are in the logs of {document.harness}")
    try:
        problems, tables = graded(document, workspace)
    except HubError as error:
        return _Samples(missing=error.message)
    scores = {arm.name: arm.score for arm in document.arms}
    differing = [name for name, table in tables.items() if abs(sample_statistics.score(table) - scores[name]) > 1e-6]
    if differing or BASE not in tables:
        arms = ", ".join(differing) or BASE
        return _Samples(missing=f"the samples in this workspace give other scores than the document for {arms}")
    statistics = sample_statistics.observe(tables, BASE)
    if not most:
        return _Samples(statistics, missing="they were not asked for")
    return _Samples(statistics, sample_statistics.embedded(problems, tables, most))


def graded(document: AnyEvaluation, workspace: Workspace) -> tuple[list[tuple[str, str]], Mapping[str, Table]]:
    """The problems as (question, gold answer), and for each arm of a document its graded samples, read from the
    workspace; nothing is generated.

    Raises `NotFound` where samples are missing, and what loading the benchmark raises.
    """
    if not (workspace.cache / FILE).exists():
        raise NotFound("its samples are not in this workspace", "run the evaluation here: it keeps them")
    with contextlib.closing(SampleStore(workspace.cache)) as store:
        benchmark = asked_files.recall(document.benchmark, store) or _registered(document.benchmark, workspace)
        problems = benchmark.problems(document.split, document.problems, document.problem_seed)
        tables = {arm.name: _table(benchmark, problems, document.samples, arm, store) for arm in document.arms}
    return [(problem.question, problem.answer) for problem in problems], tables


def _registered(name: str, workspace: Workspace) -> Benchmark:
    """Raises `NotFound`: a stranger's document must not name a file of this machine as its benchmark."""
    if name.partition("/")[0] not in workspace.registry.entries["benchmarks"]:
        raise NotFound(f"no file {name} was asked in this workspace, or it is gone", "run the evaluation again here")
    return benchmarks.load(name, workspace.registry)


def _table(
    benchmark: Benchmark, problems: list[Problem], count: int, arm: ArmResult, store: SampleStore
) -> list[list[Graded]]:
    """[problems][count] of one arm; raises `NotFound` where a sample is missing."""
    present = store.read(arm.samples, problems, count) if DIGEST.fullmatch(arm.samples) else {}
    keys = [(problem, number) for problem in problems for number in range(count)]
    if len(present) < len(keys):
        raise NotFound(
            f"samples of {arm.name} are missing from this workspace", "run the evaluation again: it keeps them"
        )
    samples = [(problem, present[problem.id, number]) for problem, number in keys]
    grades = benchmark.grades([GradedCompletion(problem, s.text, s.finished) for problem, s in samples])
    rows = [
        Graded(s.text, s.tokens, s.finished, bool(grade.strict), grade.note)
        for (_, s), grade in zip(samples, grades, strict=True)
    ]
    return [rows[start : start + count] for start in range(0, len(rows), count)]


def _published(
    document: AnyEvaluation, recipe: Recipe | None, source: str, names: Sequence[str], workspace: Workspace
) -> list[PublishedScore]:
    """Published scores on this benchmark: of the adapter or its recipe, its source, its target, and whatever was asked
    for.
    """
    registry = workspace.registry
    for name in names:
        registry.get("published", name)  # raises for a wrong name
    of_adapter = published_scores.entry_of(document.adapter.partition("@")[0], recipe, registry)
    candidates = [
        ("adapter", of_adapter[0] if of_adapter else ""),
        ("source", source),
        ("base", document.target),
        *(("other", name) for name in names),
    ]
    scores: dict[str, PublishedScore] = {}
    for role, name in candidates:
        if name not in scores and name in registry.entries["published"]:
            score = _published_score(name, role, document.benchmark, workspace)
            scores |= {name: score} if score else {}
    return list(scores.values())


def _published_score(name: str, role: str, benchmark: str, workspace: Workspace) -> PublishedScore | None:
    entry, known = workspace.registry.entries["published"][name].value, workspace.registry.entries["benchmarks"]
    score = entry.scores.get(benchmark)
    if score is None:
        return None
    problems = known[benchmark].value.problems if benchmark in known else None
    # The interval is of one sample a problem: of an average over several it would be too wide.
    interval = published_scores.wilson(score, problems) if problems and entry.samples == 1 else None
    return PublishedScore(label=name, role=role, score=score, score_ci=interval, source=entry.source)
