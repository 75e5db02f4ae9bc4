"""The store by versions: log, diff, tag, rm, gc."""

from typing import Annotated, Any

from typer import Argument, Option

from ..core.quantities import count
from . import complete, options
from .ask import Going, may_delete
from .output import Output
from .render.words import VERDICTS
from .tables import Column

COLUMNS = {
    "version": Column("version", whole=True),
    "labels": Column("labels", least=8, hide=2),
    "created": Column("created", whole=True, hide=3),
    "content_hash": Column("identity", whole=True, hide=4),
    "recipe": Column("recipe", whole=True, hide=6),
    "seed": Column("seed", right=True, hide=5),
    "verdicts": Column("verdicts", least=24, words=VERDICTS),
}
"""Of `log`: key of a row -> its column."""


def log(
    name: Annotated[str, Argument(help="NAME of the store.", autocompletion=complete.adapters)],
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """The versions of an adapter, newest first.

    When, from what, and what was found out.
    """
    from ..adapter.recorded import load_evaluations
    from ..adapter.workspace import Workspace
    from ..config.refs import AdapterRef

    store = Workspace.find(workspace).store
    ref = AdapterRef.parse(name)
    store.get(ref)
    adapters = [store.get(AdapterRef(ref.name, version)) for version in reversed(store.versions(ref.name))]
    labels = store.labels(ref.name)
    rows = [_row(adapter, labels, load_evaluations(adapter)) for adapter in adapters]
    if not out.data({"name": ref.name, "versions": rows}, "\n".join(row["version"] for row in rows)):
        out.table(list(COLUMNS.values()), [[_short(row[key]) for key in COLUMNS] for row in rows])


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
        "verdicts": _verdicts(evaluations),
    }


def _verdicts(evaluations: list[dict[str, Any]]) -> list[str]:
    """With benchmark and split, where a target was judged more than once."""
    targets = [evaluation["target"] for evaluation in evaluations]
    return [
        f"{e['verdict']} on {e['target']}"
        + (f", {e['benchmark']} ({e['split']})" if targets.count(e["target"]) > 1 else "")
        for e in evaluations
    ]


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(value) or "-"
    return value[:15] if isinstance(value, str) and value.startswith("sha256:") else str(value)


def diff(
    a: options.Adapter,
    b: Annotated[str, Argument(help="Another one, or another version.", autocompletion=complete.adapters)],
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """Two adapters side by side.

    Settings, data, features, weights, verdicts.
    """
    from ..adapter.diff import compare_adapters
    from ..adapter.workspace import Workspace
    from ..hub.resolve import resolve_adapter
    from .render import compared

    opened = Workspace.find(workspace)
    compared.show(out, compare_adapters(resolve_adapter(a, opened), resolve_adapter(b, opened)))


def tag(
    name: Annotated[
        str, Argument(help="NAME@VERSION; the latest version without one.", autocompletion=complete.adapters)
    ],
    label: Annotated[str | None, Argument(help="A word such as best; it may move from version to version.")] = None,
    clear: Annotated[bool, Option("--clear", help="Take all labels of the version away.")] = False,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """Give a version a label: NAME@LABEL then names it."""
    from ..adapter.workspace import Workspace
    from ..config.refs import AdapterRef, check_label
    from ..core.errors import Usage

    if (label is None) != clear:
        raise Usage("give either a label or --clear", "resa-hub tag NAME@0.2.0 best")
    if yes and not clear:
        raise Usage("-y has no effect here: a label takes nothing away", "leave it out")
    store = Workspace.find(workspace).store
    ref = store.locate(AdapterRef.parse(name))
    present = store.labels(ref.name)
    going = [Going(f"{ref.name}@{word}", 0, f"is {ref}") for word, at in present.items() if clear and at == ref.version]
    if clear and not may_delete(out, going, yes=yes, dry_run=dry_run):
        return
    if label and dry_run:
        name = f"{ref.name}@{check_label(label)}"
        if not out.data({"dry_run": True, "adapter": str(ref), "label": label}, str(ref)):
            out.text(f"{name} would be {ref}")
        return
    reference = store.label(ref, label).manifest.reference
    if not out.data({"adapter": reference, "labels": store.labels(ref.name)}, reference):
        out.text(f"{ref.name}@{label} is {reference}" if label else f"{reference} has no label")


def rm(
    names: Annotated[
        list[str],
        Argument(help="NAME@VERSION, or NAME where it has one version.", autocompletion=complete.adapters),
    ],
    every: Annotated[bool, Option("--all", help="All versions of NAME.")] = False,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """Remove adapters from the store."""
    from ..adapter.workspace import Workspace
    from ..config.refs import AdapterRef

    store = Workspace.find(workspace).store
    refs = list(dict.fromkeys(ref for name in names for ref in _versions(store, AdapterRef.parse(name), every)))
    folders = [store.folder(ref) for ref in refs]
    freed = [store.blobs.freed_with(folders[:count]) for count in range(len(folders) + 1)]
    going = [
        Going(str(ref), after - before, _lost(store, ref))
        for ref, before, after in zip(refs, freed, freed[1:], strict=False)
    ]
    if not may_delete(out, going, yes=yes, dry_run=dry_run):
        return
    blobs = store.blobs.used_only_by(folders)
    removed = [str(store.remove(ref)) for ref in refs]
    store.collect(blobs)
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


def _lost(store: Any, ref: Any) -> str:
    """What goes with a version, in words."""
    from ..adapter.recorded import load_evaluations
    from ..core.errors import HubError

    labels = [label for label, version in store.labels(ref.name).items() if version == ref.version]
    lost = [f"labels {', '.join(labels)}"] if labels else []
    try:
        verdicts = len(load_evaluations(store.get(ref)))
    except HubError:
        return "; ".join([*lost, "it cannot be read"])
    lost += [count(verdicts, "verdict")] if verdicts else []
    return "; ".join(lost) or "no label, no verdict"


def gc(
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """Free what no adapter of the store needs any more.

    What removed adapters, and killed or failed processes, left behind: `cache free remains`.
    """
    from ..adapter.workspace import Workspace
    from ..upkeep.kept import find_kept
    from .cache import free_items

    opened = Workspace.find(workspace)
    free_items(out, find_kept(opened, ["remains"]), opened, yes=yes, dry_run=dry_run)
