"""Names that a shell may complete: of adapters, models, benchmarks and recipes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from typer import Context

Named = Iterator[tuple[str, str]]
"""(name, what it is)."""


def adapters(ctx: Context, incomplete: str) -> list[tuple[str, str]]:
    return _safely(_adapters, ctx, incomplete)


def models(ctx: Context, incomplete: str) -> list[tuple[str, str]]:
    return _safely(_models, ctx, incomplete)


def benchmarks(ctx: Context, incomplete: str) -> list[tuple[str, str]]:
    return _safely(_benchmarks, ctx, incomplete)


def recipes(ctx: Context, incomplete: str) -> list[tuple[str, str]]:
    return _safely(_recipes, ctx, incomplete)


def methods(incomplete: str) -> list[tuple[str, str]]:
    from ..config.methods import METHODS

    return [(name, spec.about) for name, spec in METHODS.items() if name.startswith(incomplete)]


def kinds(incomplete: str) -> list[tuple[str, str]]:
    """Sections of the registry."""
    from ..config.schema import KINDS

    return [(kind, "") for kind in KINDS if kind.startswith(incomplete)]


def _safely(names: Callable[[Any], Named], ctx: Context, incomplete: str) -> list[tuple[str, str]]:
    """An error has no place in a line that is being typed: nothing is completed then."""
    from ..adapter.workspace import Workspace

    try:
        folder = ctx.params.get("workspace")
        opened = Workspace.find(Path(folder) if folder else None)
        return [(name, about) for name, about in names(opened) if name.startswith(incomplete)]
    except Exception:
        return []


def _adapters(workspace: Any) -> Named:
    """Each name, and each version where a name has several."""
    for name in workspace.store.names():
        versions = workspace.store.versions(name)
        yield name, versions[-1]
        if len(versions) > 1:
            yield from ((f"{name}@{version}", "") for version in versions)


def _models(workspace: Any) -> Named:
    for name, entry in workspace.registry.entries["models"].items():
        yield name, entry.value.id or f"{entry.value.base} with an adapter"


def _recipes(workspace: Any) -> Named:
    for name in workspace.registry.entries["recipes"]:
        yield name, ""


def _benchmarks(workspace: Any) -> Named:
    for name in workspace.registry.entries["benchmarks"]:
        yield name, ""
