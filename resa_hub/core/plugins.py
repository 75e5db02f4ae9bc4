"""Tables that others may add to: `RESA_HUB_PLUGINS` names Python modules, separated by commas, whose dictionaries
`METHODS`, `BENCHMARKS`, `REMOTES`, `ENGINES` and `COMMANDS` extend ours.

A plugin module is imported whenever the program starts, so it holds plain rows and imports nothing of ours: a row is
`"package.module:thing"`, or a dictionary of the fields of the table's row. What it names is imported when it is used.
CONTRIBUTING.md shows one row of each table.
"""

import os
from collections.abc import Callable
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from .errors import Usage

VARIABLE = "RESA_HUB_PLUGINS"
TABLES = ("METHODS", "BENCHMARKS", "REMOTES", "ENGINES", "COMMANDS")


def rows(table: str, row: Callable[..., Any] | None = None) -> dict[str, Any]:
    """Name -> row of all plugins for one table, each made by `row` of the fields that its dictionary gives.

    Raises `Usage` for a plugin that cannot be imported and for fields that the table does not have.
    """
    found = {}
    for module in _modules():
        for name, fields in getattr(module, table, {}).items():
            try:
                found[name] = row(**fields) if row else fields
            except TypeError as error:
                wrong = f"{table}[{name!r}] of the plugin {module.__name__}: {error}"
                raise Usage(wrong, "CONTRIBUTING.md shows a row of each table") from None
    return found


def resolve(place: str, package: str) -> Any:
    """What `module:name` stands for: a module of `package`, or of anywhere when its name has a dot."""
    module, _, name = place.partition(":")
    return getattr(import_module(module if "." in module else f"{package}.{module}"), name)


@cache
def _modules() -> tuple[ModuleType, ...]:
    names = [name.strip() for name in os.environ.get(VARIABLE, "").split(",")]
    return tuple(_import(name) for name in names if name)


def _import(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        raise Usage(f"the plugin {name} cannot be imported: {error}", f"mend {VARIABLE}, or install it") from None
