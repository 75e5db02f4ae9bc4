"""Recipes by name: list, show."""

from typing import Annotated, Any

from typer import Argument

from . import complete, options
from .output import Output
from .render.forecast import REFERENCES
from .tables import Column


def show(
    name: Annotated[
        str,
        Argument(
            help="Registry name, a sweep's name and a number (resa-still-v1-layer7), or a YAML file.",
            autocompletion=complete.recipes,
        ),
    ],
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """A recipe fully resolved: every field, and who says so.

    And what its names stand for.
    """
    import msgspec

    from ..adapter.workspace import Workspace
    from ..extraction.describe import UNPINNED, describe

    found = describe(name, Workspace.find(workspace).registry)
    if out.data(msgspec.to_builtins(found), found.digest):
        return
    out.text(f"{found.name}: {found.note}" if found.note else found.name)
    out.table(FIELDS, [[f.path, _text(f.value), f.origin] for f in found.fields])
    if not found.references:
        out.hint("\na fragment: other recipes start from it by `like`, and options give what is missing")
        return
    out.text("")
    out.table(REFERENCES, [[r.role, r.name, r.id, r.state] for r in found.references])
    out.hint(f"\ndigest {found.digest}")
    if any(field.origin in PUBLISHED for field in found.fields):
        out.hint("where it is not what the paper's code does: docs/fidelity.md")
    if any(r.state == UNPINNED for r in found.references):
        kept = "what is not pinned is resolved when it is used and kept in the manifest"
        out.hint(f"{kept}; `resa-hub registry pin` fixes it beforehand")


PUBLISHED = ("paper", "reference-code")
"""Fragments that the recipes of published systems start from."""
FIELDS = (Column("field", whole=True), Column("value"), Column("from", whole=True, hide=1))
COLUMNS = {
    "recipe": Column("recipe", least=25),
    "method": Column("method", whole=True, hide=2),
    "SAE": Column("SAE", whole=True, hide=4),
    "from": Column("from", whole=True, hide=5),
    "data": Column("data", hide=3),
}
"""Of the list, those that are not like others."""


def _text(value: Any) -> str:
    if value is None:
        return "null"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def list_(
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """All recipes that can be run by name."""
    from ..adapter.workspace import Workspace
    from ..extraction.describe import runnable

    rows = runnable(Workspace.find(workspace).registry)
    if not out.data({"recipes": rows}, "\n".join(row["recipe"] for row in rows)):
        out.table([COLUMNS.get(name, Column(name)) for name in rows[0]], [list(row.values()) for row in rows])
        out.hint("a sweep's name and one of its numbers name a recipe; `resa-hub recipe show NAME` says everything")
