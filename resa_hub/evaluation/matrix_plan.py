"""Which evaluations a matrix is made of, and what they take: as far as it can be told before anything is fetched."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from ..adapter.fit import Fit, assess_fit, read_lora
from ..adapter.store import Adapter
from ..adapter.workspace import Workspace
from ..config.remotes import RemoteRef, parse_adapter
from ..core.errors import NoEffect, NotFound, Usage
from ..core.estimates import Estimate, together
from ..core.executors import check_executor
from ..data.snapshots import Files
from ..hub.resolve import resolve_adapter
from .forecast import Forecast, forecast
from .question import EvalSettings, ask


class Group(NamedTuple):
    """What adapters share that are evaluated together."""

    target: str
    benchmark: str
    source: str


class MatrixPreview(NamedTuple):
    adapters: list[Adapter]
    """Those that are in the store."""
    elsewhere: list[str]
    """Names of those that have yet to be fetched."""
    targets: list[str]
    benchmarks: list[str]
    fits: dict[tuple[str, str], Fit]
    """(adapter, target) -> fit, of the targets that are here."""

    @property
    def left(self) -> list[str]:
        """What is checked when it is fetched."""
        here = {target for _, target in self.fits}
        unseen = [target for target in self.targets if target not in here]
        return [f"the adapter {name}" for name in self.elsewhere] + [f"what fits {target}" for target in unseen]


def preview(
    sources: Sequence[str],
    targets: Sequence[str],
    benchmarks: Sequence[str],
    settings: EvalSettings,
    executor: str,
    workspace: Workspace,
) -> MatrixPreview:
    """Raises what the matrix itself raises, as far as it is known before anything is fetched."""
    check_executor(executor)
    targets, benchmarks = list(dict.fromkeys(filter(None, targets))), list(dict.fromkeys(filter(None, benchmarks)))
    if not targets or not benchmarks:
        raise Usage("a matrix needs targets and benchmarks", "--targets tiny-r1,tiny-r1b --benchmarks tiny-chain")
    elsewhere = [text for text in dict.fromkeys(sources) if _is_remote(text, workspace)]
    near = [text for text in sources if text not in elsewhere]
    adapters = rows(near, workspace) if near or not elsewhere else []
    asked = [ask(target, replace(settings, benchmark=name), workspace) for target in targets for name in benchmarks]
    files = {question.target_name: question.files for question in asked}
    fits = {(a.manifest.reference, name): fit_of(a, here) for name, here in files.items() if here for a in adapters}
    return MatrixPreview(adapters, elsewhere, targets, benchmarks, fits)


def _is_remote(text: str, workspace: Workspace) -> bool:
    return not workspace.registry.model_entry(text) and isinstance(parse_adapter(text), RemoteRef)


class MatrixForecast(NamedTuple):
    preview: MatrixPreview
    evaluations: list[Forecast]
    estimate: Estimate | str

    @property
    def missing(self) -> int:
        """Answers that are yet to be generated."""
        return sum(each.missing for each in self.evaluations)


def forecast_matrix(
    sources: Sequence[str],
    targets: Sequence[str],
    benchmarks: Sequence[str],
    settings: EvalSettings,
    executor: str,
    workspace: Workspace,
    rate: float | None = None,
) -> MatrixForecast:
    """Raises as `preview`. Adapters that have yet to be fetched are not counted."""
    seen = preview(sources, targets, benchmarks, settings, executor, workspace)
    groups = groups_of(seen.adapters, seen.targets, seen.benchmarks, seen.fits)
    found = [
        forecast(names, group.target, replace(settings, benchmark=group.benchmark), workspace, rate=rate)
        for group, names in groups.items()
    ]
    told = [each.estimate for each in found if isinstance(each.estimate, Estimate)]
    why = next((each.estimate for each in found if isinstance(each.estimate, str)), "no cell fits")
    return MatrixForecast(seen, found, together(told) if told and len(told) == len(found) else str(why))


def rows(sources: Sequence[str], workspace: Workspace) -> list[Adapter]:
    """The adapters that these names mean, each once; raises `NotFound`."""
    adapters = [adapter for text in dict.fromkeys(sources) for adapter in _named(text, workspace)]
    if not adapters:
        raise Usage("a matrix needs adapters", "--sources NAME,NAME or the name of a source model")
    return list({adapter.manifest.reference: adapter for adapter in adapters}.values())


def _named(text: str, workspace: Workspace) -> list[Adapter]:
    """The adapter of that name, or all that were extracted from the model of that name."""
    if text in workspace.store.names() or not workspace.registry.model_entry(text):
        return [resolve_adapter(text, workspace)]
    ref = str(workspace.registry.model(text))
    extracted = [a for a in workspace.store.readable()[0] if a.manifest.source == ref]
    if not extracted:
        raise NotFound(
            f"no adapter in {workspace.store.root} was extracted from {text}", f"resa-hub extract --source {text}"
        )
    return extracted


def fit_of(adapter: Adapter, files: Files) -> Fit:
    try:
        return assess_fit(adapter.manifest.base, read_lora(adapter.folder, zero=True), files)
    except NoEffect as error:
        return Fit("foreign", None, error.message)


def groups_of(
    adapters: list[Adapter], targets: list[str], benchmarks: list[str], fits: dict[tuple[str, str], Fit]
) -> dict[Group, list[str]]:
    """The adapters that are evaluated together: those of one source share an engine, base and source."""
    groups: dict[Group, list[str]] = {}
    for benchmark in benchmarks:
        for target in targets:
            for a in adapters:
                fit = fits.get((a.manifest.reference, target))  # None: the target has yet to be fetched
                if fit is None or fit.level != "foreign":
                    group = Group(target, benchmark, a.manifest.source)
                    groups.setdefault(group, []).append(a.manifest.reference)
    return groups
