"""resa-hub: extract, attach, share and judge reasoning adapters.

`from resa_hub import extract, attach, evaluate, push, pull, sweep` gives the functions behind the commands of the same names.
Nothing is loaded until one of them is asked for.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .attach import attach as attach
    from .evaluate import evaluate as evaluate
    from .extract import extract as extract
    from .matrix import matrix as matrix
    from .share import pull as pull
    from .share import push as push
    from .sweep import sweep as sweep

__all__ = ["attach", "evaluate", "extract", "matrix", "pull", "push", "sweep"]
VERBS = {"attach": "attach", "evaluate": "evaluate", "extract": "extract", "matrix": "matrix", "pull": "share", "push": "share", "sweep": "sweep"}
"""Function -> the module that defines it."""


def __getattr__(name: str) -> Any:
    if name not in VERBS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{VERBS[name]}", __name__), name)


class _Package(ModuleType):
    """Some verbs share their module's name; the import of a submodule binds it here, which would hide the function."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in VERBS and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
