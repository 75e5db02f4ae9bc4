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
    labels = store.labels(ref.name)
    rows: list[dict[str, Any]] = []
    for version in reversed(store.versions(ref.name)):
        adapter = store.get(AdapterRef(ref.name, version))
        m, verdicts = adapter.manifest, load_evaluations(adapter)
        rows.append(
            {
                "version": version,
                "labels": [label for label, named in labels.items() if named == version],
                "created": m.run.created[:16],
                "content_hash": m.content_hash,
                "method": m.method,
                "hookpoint": m.hookpoint,
                "seed": m.seed,
                "recipe": m.recipe_digest,
                "verdicts": [f"{e['verdict']} on {e['target']}" for e in verdicts],
            }
        )
    if not out.data({"name": ref.name, "versions": rows}, "\n".join(row["version"] for row in rows)):
        shown = ("version", "labels", "created", "content_hash", "recipe", "seed", "verdicts")
        out.table(shown, [[_short(row[key]) for key in shown] for row in rows])


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
    import msgspec

    from ..adapter.diff import compare
    from ..adapter.workspace import Workspace
    from ..hub.resolve import find

    opened = Workspace.find(workspace)
    found = compare(find(a, opened), find(b, opened))
    if out.data(msgspec.to_builtins(found), "identical" if found.identical else "different"):
        return
    out.text(f"{found.a} and {found.b}: {'the same bytes' if found.identical else 'different bytes'}")
    if found.told:
        out.table(["differs", found.a, found.b], [[key, _cell(x), _cell(y)] for key, (x, y) in found.told.items()])
    cosine = "-" if found.cosine is None else f"{found.cosine:+.4f}"
    out.text(f"\nchange of the weights: norms {found.norm_a:.4g} and {found.norm_b:.4g}, cosine {cosine}")
    out.table(
        ["module", "norm", "norm", "cosine"],
        [[m.module, _number(m.norm_a), _number(m.norm_b), _number(m.cosine)] for m in found.modules],
    )
    if found.features:
        f = found.features
        out.text(f"\nfeatures: {f['shared']} shared of {f['of_a']} and {f['of_b']}")
    for name, verdicts in zip((found.a, found.b), found.verdicts, strict=True):
        for e in verdicts:
            out.text(f"{name}: {e['verdict']} on {e['target']}, {e['benchmark']} ({e['split']})")


def _cell(value: Any) -> str:
    text = "-" if value is None else ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


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
    m = store.label(AdapterRef.parse(name), label).manifest
    if not out.data({"adapter": m.reference, "labels": store.labels(m.name)}, m.reference):
        out.text(f"{m.name}@{label} is {m.reference}" if label else f"{m.reference} has no label")


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
    from ..core.errors import Usage

    store = Workspace.find(workspace).store
    going: list[AdapterRef] = []
    for name in names:
        ref = AdapterRef.parse(name)
        versions = store.versions(ref.name)
        if ref.version is None and len(versions) > 1 and not every:
            raise Usage(
                f"{ref.name} has {len(versions)} versions: {', '.join(versions)}",
                f"name one, as {ref.name}@{versions[0]}, or add --all",
            )
        going += (
            [AdapterRef(ref.name, version) for version in versions]
            if every and versions and not ref.version
            else [store.locate(ref)]
        )
    confirm(f"remove {', '.join(map(str, going))}?", yes)
    removed = [str(store.remove(ref)) for ref in going]
    if not out.data({"removed": removed}, "\n".join(removed)):
        out.text(f"removed {', '.join(removed)}")


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
