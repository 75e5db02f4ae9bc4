from typing import Annotated, Any

from . import options
from .options import Argument
from .output import Output


def registry(
    what: Annotated[
        str | None, Argument(help="A kind (models, recipes, ...), or KIND:NAME as recipe:resa-still-v1.")
    ] = None,
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """The names everybody starts with, and where each comes from."""
    from ..adapter.workspace import Workspace
    from ..config.registry import plain
    from ..config.schema import KINDS, SINGULAR
    from ..core.errors import Usage, did_you_mean

    known = Workspace.find(workspace).registry
    kind, _, name = (what or "").partition(":")
    kind = SINGULAR.get(kind, kind)
    if kind and kind not in KINDS:
        raise Usage(f"the registry has no section {kind!r}", did_you_mean(kind, list(KINDS)))
    if name:
        value = plain(known.recipe(name)) if kind == "recipes" else plain(known.get(kind, name))
        if not out.data(value, name):
            out.pairs(flatten(value))
        return
    entries = [entry for section in ([kind] if kind else KINDS) for entry in known.entries[section].values()]
    document = {
        section: {e.name: {"layer": e.layer, "value": plain(e.value)} for e in entries if e.kind == section}
        for section in KINDS
    }
    if not out.data(
        {kind: document[kind]} if kind else document, "\n".join(f"{SINGULARS[e.kind]}:{e.name}" for e in entries)
    ):
        out.table(
            ["kind", "name", "from", "what"], [[SINGULARS[e.kind], e.name, e.layer, summary(e.value)] for e in entries]
        )
        out.hint("\nlayers: " + ", ".join(f"{layer} = {path}" for layer, path in known.layers))


def pin(
    names: Annotated[list[str], Argument(help="Names, KIND:NAME, or all.")],
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> int:
    """Fix names to the commits they stand for now, in the workspace's registry.yaml."""
    import msgspec

    from ..adapter.workspace import Workspace
    from ..hub.pin import pin as verb

    opened = Workspace.find(workspace)
    found = verb(names, opened)
    missing = [p for p in found if p.revision is None]
    if not out.data(
        {"pins": msgspec.to_builtins(found)}, "\n".join(f"{p.name} {p.revision}" for p in found if p.revision)
    ):
        out.table(
            ["kind", "name", "is", "revision"],
            [[SINGULARS[p.kind], p.name, p.id, p.revision or f"- {p.error}"] for p in found],
        )
        if len(missing) < len(found):
            out.hint(f"written to {opened.folder / 'registry.yaml'}")
    return 3 if missing else 0


SINGULARS = {
    "models": "model",
    "saes": "sae",
    "datasets": "dataset",
    "benchmarks": "benchmark",
    "recipes": "recipe",
    "sweeps": "sweep",
    "published": "published",
    "remotes": "remote",
    "settings": "setting",
}


def flatten(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    if not isinstance(value, dict):
        return [(prefix.rstrip("."), ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))]
    return [pair for key, part in value.items() for pair in flatten(part, f"{prefix}{key}.")]


def summary(value: Any) -> str:
    """One line an entry."""
    from ..config.schema import Model, PublishedEntry, SweepEntry

    if isinstance(value, str):
        return value
    if isinstance(value, Model):
        return value.id or f"{value.base} + {value.adapter.repo if value.adapter else '?'}"
    if isinstance(value, PublishedEntry):
        return f"average {value.average}" if value.average is not None else value.source
    if isinstance(value, SweepEntry):
        return f"{value.recipe} with {value.vary} {value.value}, N = {value.over}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {value[key]}" for key in ("like", "method", "source", "target") if key in value)
    return value.id
