"""resa-hub: extract, attach, share and judge reasoning adapters.

`from resa_hub import extract, attach, evaluate, push, pull, sweep` gives the functions behind the commands of those
names. Nothing is loaded until one of them is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .evaluation.evaluate import evaluate as evaluate
    from .evaluation.matrix import matrix as matrix
    from .extraction.extract import extract as extract
    from .extraction.reproduce import reproduce as reproduce
    from .extraction.sweep import sweep as sweep
    from .hub.sharing import pull as pull
    from .hub.sharing import push as push
    from .inference.attach import attach as attach

__all__ = ["attach", "evaluate", "extract", "matrix", "pull", "push", "reproduce", "sweep"]
VERBS = {
    "attach": "inference.attach",
    "evaluate": "evaluation.evaluate",
    "extract": "extraction.extract",
    "matrix": "evaluation.matrix",
    "pull": "hub.sharing",
    "push": "hub.sharing",
    "reproduce": "extraction.reproduce",
    "sweep": "extraction.sweep",
}
"""Function -> the module that defines it."""


def __getattr__(name: str) -> Any:
    if name not in VERBS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{VERBS[name]}", __name__), name)
