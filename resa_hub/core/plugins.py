"""Tables that others may add to: `RESA_HUB_PLUGINS` names Python modules, separated by commas, whose upper-case tables
(`METHODS`, `BENCHMARKS`, `REMOTES`, `ENGINES`, `COMMANDS`) extend ours.

A plugin module is imported by whatever starts the program, so it must be light; what its rows name is imported when it
is used: `"package.module:function"`. CONTRIBUTING.md shows one row of each table.
"""

import os
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from .errors import Usage

VARIABLE = "RESA_HUB_PLUGINS"


def rows(table: str) -> dict[str, Any]:
    """Name -> row of all plugins for one table; raises `Usage` for a plugin that cannot be imported."""
    return {name: row for module in _modules() for name, row in getattr(module, table, {}).items()}


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
