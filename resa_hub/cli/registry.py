"""The registry: what names mean, and fixing them to commits."""

from typing import Annotated, Any

from typer import Argument

from . import complete, options
from .output import Output
from .tables import Column


def registry(
    what: Annotated[
        str | None,
        Argument(
            help="A kind (models, recipes, ...), or KIND:NAME as recipe:resa-still-v1.", autocompletion=complete.kinds
        ),
    ] = None,
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """The names everybody starts with, and where each comes from."""
    from msgspec import to_builtins

    from ..adapter.workspace import Workspace
    from ..config.schema import KINDS, SINGULAR
    from ..core.errors import Usage, did_you_mean

    known = Workspace.find(workspace).registry
    kind, _, name = (what or "").partition(":")
    kind = SINGULAR.get(kind, kind)
    if kind and kind not in KINDS:
        raise Usage(f"the registry has no section {kind!r}", did_you_mean(kind, list(KINDS)))
    if name:
        value = to_builtins(known.recipe(name)) if kind == "recipes" else to_builtins(known.get(kind, name))
        if not out.data(value, name):
            out.pairs(flatten(value))
        return
    sections = [kind] if kind else list(KINDS)
    entries = [entry for section in sections for entry in known.entries[section].values()]
    document = {section: {} for section in KINDS}
    for entry in entries:
        document[entry.kind][entry.name] = {"layer": entry.layer, "value": to_builtins(entry.value)}
    essential = "\n".join(f"{SINGULARS[entry.kind]}:{entry.name}" for entry in entries)
    if not out.data({kind: document[kind]} if kind else document, essential):
        rows = [[SINGULARS[entry.kind], entry.name, entry.layer, summary(entry.value)] for entry in entries]
        origin = Column("from", whole=True, hide=1)
        out.table([Column("kind", whole=True), Column("name", whole=True), origin, Column("what", least=42)], rows)
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
    pins = verb(names, opened)
    missing = [pin for pin in pins if pin.revision is None]
    essential = "\n".join(f"{pin.name} {pin.revision}" for pin in pins if pin.revision)
    if not out.data({"pins": msgspec.to_builtins(pins)}, essential):
        rows = [[SINGULARS[pin.kind], pin.name, pin.id, pin.revision or f"- {pin.error}"] for pin in pins]
        columns = [Column("kind", whole=True), Column("name", whole=True), Column("is", least=24), "revision"]
        out.table(columns, rows)
        if len(missing) < len(pins):
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
