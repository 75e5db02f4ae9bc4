"""The adapters of the store: list, show, verify."""

from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from . import complete, options
from .output import Output
from .render import stored

Base = Annotated[
    str | None,
    Option(
        "--base", help="Only those made on this base: a name of the registry or an id.", autocompletion=complete.models
    ),
]
Deep = Annotated[
    bool, Option("--deep", help="Also load each on its own base and hold its effect against the recorded one.")
]
Keys = Annotated[
    list[Path] | None, Option("--key", help="It must be signed by this public key (PEM), or by one of several.")
]


def list_(
    target: Annotated[
        str | None, Option("--target", help="Also say how each fits this model.", autocompletion=complete.models)
    ] = None,
    base: Base = None,
    method: Annotated[
        str | None, Option("--method", help="Only those made by this method.", autocompletion=complete.methods)
    ] = None,
    verdict: Annotated[str | None, Option("--verdict", help="Only those with this verdict on any target.")] = None,
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """The adapters of the store."""
    from ..adapter.workspace import Workspace

    if method or verdict:
        _check_words(method, verdict)
    opened = Workspace.find(workspace)
    adapters, broken = opened.store.readable()
    evaluations, unread = _evaluations(adapters)
    if base:
        adapters = _of_base(adapters, base, opened.registry)
    if method:
        adapters = [adapter for adapter in adapters if adapter.manifest.method == method]
    if verdict:
        adapters = [a for a in adapters if any(e["verdict"] == verdict for e in evaluations[a.manifest.reference])]
    filtered = bool(base or method or verdict)
    step = "leave a filter out" if filtered else "make one with `resa-hub extract`, fetch one with `resa-hub pull`"
    none = f"no {'such ' if filtered else ''}adapters in {opened.store.root}: {step}"
    fits = _fits(opened, target) if target else {}
    labels = {name: opened.store.labels(name) for name in {adapter.manifest.name for adapter in adapters}}
    rows = [
        stored.Listed(
            adapter,
            [label for label, version in labels[adapter.manifest.name].items() if version == adapter.manifest.version],
            evaluations[adapter.manifest.reference],
            fits.get(adapter.manifest.reference, "") if target else None,
        )
        for adapter in adapters
    ]
    stored.table(out, rows, broken + unread, none)


def _check_words(method: str | None, verdict: str | None) -> None:
    """Raise `Usage` for a method or verdict that there is not."""
    from typing import get_args

    from ..config.methods import METHODS
    from ..core.errors import Usage, did_you_mean
    from ..evaluation.verdict import Word

    if method and method not in METHODS:
        raise Usage(f"no method is called {method!r}", did_you_mean(method, list(METHODS)))
    words = list(get_args(Word))
    if verdict and verdict not in words:
        raise Usage(f"no verdict is called {verdict!r}", did_you_mean(verdict, words) or f"one of {', '.join(words)}")


def _of_base(adapters: list[Any], base: str, registry: Any) -> list[Any]:
    """Those made on this base; raises `NotFound` for a word that is no model and no base of the store."""
    known = base in registry.entries["models"] or any(a.manifest.base.id == base for a in adapters)
    if not known and "/" not in base:
        registry.model(base)
    base_id = registry.model(base).base.id if base in registry.entries["models"] else base
    return [adapter for adapter in adapters if adapter.manifest.base.id == base_id]


def _evaluations(adapters: list[Any]) -> tuple[dict[str, list[dict[str, Any]]], list[tuple[str, Any]]]:
    """Reference -> evaluations, oldest first; and (reference, error) of those that cannot be read."""
    from ..adapter.recorded import load_evaluations
    from ..core.errors import HubError

    found: dict[str, list[dict[str, Any]]] = {}
    unread = []
    for adapter in adapters:
        reference = adapter.manifest.reference
        found[reference] = []
        try:
            found[reference] = load_evaluations(adapter)
        except HubError as error:
            unread.append((f"the evaluations of {reference}", error))
    return found, unread


def _fits(workspace: Any, target: str) -> dict[str, str]:
    from ..data.snapshots import locate
    from ..hub.resolve import adapters_by_fit, choose_adapter

    choice = choose_adapter(None, target, workspace.registry)
    if not workspace.store.names():
        return {}  # a whole model is not fetched to say that nothing fits it
    candidates = adapters_by_fit(workspace.store, locate(choice.target.base))
    return {candidate.adapter.manifest.reference: candidate.fit.level for candidate in candidates}


def show(
    name: options.Named,
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """What an adapter is, from what it was made, and its verdicts."""
    from ..adapter.recorded import load_evaluations
    from ..adapter.workspace import Workspace
    from ..evaluation.published_scores import compare
    from ..hub.resolve import resolve_adapter

    opened = Workspace.find(workspace)
    adapter = resolve_adapter(name, opened)
    manifest, evaluations = adapter.manifest, load_evaluations(adapter)
    claimed = compare(manifest.name, manifest.recipe, evaluations, opened.registry)
    stored.full(out, adapter, opened.store.versions(manifest.name), evaluations, claimed)


def verify(
    names: Annotated[
        list[str] | None,
        Argument(help="Adapters by any of their names; all without it.", autocompletion=complete.adapters),
    ] = None,
    deep: Deep = False,
    keys: Keys = None,
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> int:
    """Check every byte of adapters against their manifests."""
    from ..adapter.workspace import Workspace
    from ..core.errors import HubError, Integrity
    from ..hub.resolve import resolve_adapter
    from ..inference.verify import check_adapter

    opened = Workspace.find(workspace)
    every = [f"{name}@{version}" for name in opened.store.names() for version in opened.store.versions(name)]
    results, code = [], 0
    for name in names or every:
        try:
            adapter = resolve_adapter(name, opened)
            remarks = check_adapter(adapter, opened, deep=deep, keys=keys or [])
            detail = "; ".join([adapter.manifest.content_hash, *remarks])
            results.append({"adapter": adapter.manifest.reference, "ok": True, "state": "ok", "detail": detail})
        except HubError as error:
            state = "BROKEN" if isinstance(error, Integrity) or _is_here(opened, name) else error.kind
            detail = error.message if state == "BROKEN" else f"{error.message}; {error.hint}"
            results.append({"adapter": name, "ok": False, "state": state, "detail": detail})
            code = code or error.exit_code
    stored.checks(out, results)
    return code


def _is_here(workspace: Any, name: str) -> bool:
    """Whether the store has a version of that name, in whatever state."""
    from ..config.refs import AdapterRef
    from ..core.errors import HubError

    try:
        return bool(workspace.store.locate(AdapterRef.parse(name)))
    except HubError:
        return False
