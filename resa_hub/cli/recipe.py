"""Recipes by name: list, show."""

from typing import Annotated, Any

from . import options
from .options import Argument
from .output import Output


def show(
    name: Annotated[
        str, Argument(help="Registry name, a sweep's name and a number (resa-still-v1-layer7), or a YAML file.")
    ],
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """A recipe fully resolved: every field, who says so, and what its names stand for."""
    import msgspec

    from ..adapter.workspace import Workspace
    from ..extraction.describe import UNPINNED, describe

    found = describe(name, Workspace.find(workspace).registry)
    if out.data(msgspec.to_builtins(found), found.digest):
        return
    out.text(f"{found.name}: {found.note}" if found.note else found.name)
    out.table(["field", "value", "from"], [[f.path, _text(f.value), f.origin] for f in found.fields])
    out.text("")
    out.table(["reference", "name", "is", "revision"], [[r.role, r.name, r.id, r.state] for r in found.references])
    out.hint(f"\ndigest {found.digest}")
    if any(r.state == UNPINNED for r in found.references):
        kept = "what is not pinned is resolved when it is used and kept in the manifest"
        out.hint(f"{kept}; `resa-hub registry pin` fixes it beforehand")


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
        out.table(list(rows[0]), [list(row.values()) for row in rows])
        out.hint("a sweep's name and one of its numbers name a recipe; `resa-hub recipe show NAME` says everything")
