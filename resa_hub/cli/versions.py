"""The store by versions: log, diff, tag, rm, gc."""

import sys
from typing import Annotated, Any

from . import options
from .options import Argument, Option
from .output import Output


def log(
    name: Annotated[str, Argument(help="NAME of the store.")],
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """The versions of an adapter, newest first: when, from what, and what was found out."""
    from ..adapter.results import load_evaluations
    from ..adapter.workspace import Workspace
    from ..config.refs import AdapterRef

    store = Workspace.find(workspace).store
    ref = AdapterRef.parse(name)
    store.get(ref)
    adapters = [store.get(AdapterRef(ref.name, version)) for version in reversed(store.versions(ref.name))]
    labels = store.labels(ref.name)
    rows = [_row(adapter, labels, load_evaluations(adapter)) for adapter in adapters]
    if not out.data({"name": ref.name, "versions": rows}, "\n".join(row["version"] for row in rows)):
        columns = ("version", "labels", "created", "content_hash", "recipe", "seed", "verdicts")
        out.table(columns, [[_short(row[column]) for column in columns] for row in rows])


def _row(adapter: Any, labels: dict[str, str], evaluations: list[dict[str, Any]]) -> dict[str, Any]:
    manifest = adapter.manifest
    return {
        "version": manifest.version,
        "labels": [label for label, version in labels.items() if version == manifest.version],
        "created": manifest.run.created[:16],
        "content_hash": manifest.content_hash,
        "method": manifest.method,
        "hookpoint": manifest.hookpoint,
        "seed": manifest.seed,
        "recipe": manifest.recipe_digest,
        "verdicts": [f"{evaluation['verdict']} on {evaluation['target']}" for evaluation in evaluations],
    }


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(value) or "-"
    return value[:15] if isinstance(value, str) and value.startswith("sha256:") else str(value)


def diff(
    a: options.Adapter,
    b: Annotated[str, Argument(help="Another one, or another version.")],
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """Two adapters side by side: settings, data, features, weights, verdicts."""
    from ..adapter.diff import compare_adapters
    from ..adapter.workspace import Workspace
    from ..hub.resolve import resolve_adapter
    from .render import compared

    opened = Workspace.find(workspace)
    compared.show(out, compare_adapters(resolve_adapter(a, opened), resolve_adapter(b, opened)))


def tag(
    name: Annotated[str, Argument(help="NAME@VERSION; the latest version without one.")],
    label: Annotated[str | None, Argument(help="A word such as best; it may move from version to version.")] = None,
    clear: Annotated[bool, Option("--clear", help="Take all labels of the version away.")] = False,
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """Give a version a label: NAME@LABEL then names it."""
    from ..adapter.workspace import Workspace
    from ..config.refs import AdapterRef
    from ..core.errors import Usage

    if (label is None) != clear:
        raise Usage("give either a label or --clear", "resa-hub tag NAME@0.2.0 best")
    store = Workspace.find(workspace).store
    manifest = store.label(AdapterRef.parse(name), label).manifest
    reference = manifest.reference
    if not out.data({"adapter": reference, "labels": store.labels(manifest.name)}, reference):
        out.text(f"{manifest.name}@{label} is {reference}" if label else f"{reference} has no label")


def rm(
    names: Annotated[list[str], Argument(help="NAME@VERSION, or NAME where it has one version.")],
    every: Annotated[bool, Option("--all", help="All versions of NAME.")] = False,
    yes: options.Yes = False,
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """Remove adapters from the store."""
    from ..adapter.workspace import Workspace
    from ..config.refs import AdapterRef

    store = Workspace.find(workspace).store
    going = [ref for name in names for ref in _versions(store, AdapterRef.parse(name), every)]
    confirm(f"remove {', '.join(map(str, going))}?", yes)
    removed = [str(store.remove(ref)) for ref in going]
    if not out.data({"removed": removed}, "\n".join(removed)):
        out.text(f"removed {', '.join(removed)}")


def _versions(store: Any, ref: Any, every: bool) -> list[Any]:
    """What a name means to `rm`; raises `Usage` where it could mean several versions."""
    from ..config.refs import AdapterRef
    from ..core.errors import Usage

    versions = store.versions(ref.name)
    if ref.version is None and len(versions) > 1 and not every:
        several = f"{ref.name} has {len(versions)} versions: {', '.join(versions)}"
        raise Usage(several, f"name one, as {ref.name}@{versions[0]}, or add --all")
    if every and versions and not ref.version:
        return [AdapterRef(ref.name, version) for version in versions]
    return [store.locate(ref)]


def confirm(question: str, yes: bool) -> None:
    """Ask at a terminal; elsewhere only `--yes` will do. Raises `Usage`."""
    import click

    from ..core.errors import Usage

    if yes:
        return
    if not sys.stdin.isatty():
        raise Usage("nobody is there to confirm", "add -y")
    if not click.confirm(question, err=True):
        raise Usage("nothing was done", "")


def gc(
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """Free what no adapter of the store needs any more."""
    from ..adapter.workspace import Workspace

    freed = Workspace.find(workspace).store.collect()
    if not out.data({"freed": freed}, str(freed)):
        out.text(f"{freed / 1e6:,.1f} MB freed")
