"""resa-hub: extract, attach, share and judge reasoning adapters.

    import resa_hub

    adapter, new = resa_hub.extract("tina-tiny", method="feature-diff")
    resa_hub.attach(adapter, target="tiny-r1b", prompts=["7*7-8+6-4="])
    resa_hub.evaluate(adapter, target="tiny-r1b", problems=50)

The functions are the verbs of the command line, its options their keyword arguments. All take `workspace`: the folder
that holds `adapters/`, by default the nearest one. What can go wrong is a `HubError`, which says what, why, and the
next step. Nothing is loaded until one of them is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adapter.workspace import Workspace as Workspace
    from .api.judge import evaluate as evaluate
    from .api.judge import evaluations as evaluations
    from .api.judge import matrix as matrix
    from .api.judge import write_report as write_report
    from .api.keep import adapters as adapters
    from .api.keep import diff as diff
    from .api.keep import load as load
    from .api.keep import tag as tag
    from .api.keep import verify as verify
    from .api.make import extract as extract
    from .api.make import reproduce as reproduce
    from .api.make import sweep as sweep
    from .api.share import push as push
    from .api.share import search as search
    from .api.use import attach as attach
    from .api.use import export as export
    from .core.errors import HubError as HubError
    from .evaluation.harness.imported import judge_logs as judge_logs
    from .extraction.import_sae import import_sae as import_sae
    from .hub.sharing import pull as pull
    from .inference.import_export import import_adapter as import_adapter

    __version__: str

__all__ = [
    "HubError",
    "Workspace",
    "adapters",
    "attach",
    "diff",
    "evaluate",
    "evaluations",
    "export",
    "extract",
    "import_adapter",
    "import_sae",
    "judge_logs",
    "load",
    "matrix",
    "pull",
    "push",
    "reproduce",
    "search",
    "sweep",
    "tag",
    "verify",
    "write_report",
]
PLACES = {
    "HubError": "core.errors",
    "Workspace": "adapter.workspace",
    "adapters": "api.keep",
    "attach": "api.use",
    "diff": "api.keep",
    "evaluate": "api.judge",
    "evaluations": "api.judge",
    "export": "api.use",
    "extract": "api.make",
    "import_adapter": "inference.import_export",
    "import_sae": "extraction.import_sae",
    "judge_logs": "evaluation.harness.imported",
    "load": "api.keep",
    "matrix": "api.judge",
    "pull": "hub.sharing",
    "push": "api.share",
    "reproduce": "api.make",
    "search": "api.share",
    "sweep": "api.make",
    "tag": "api.keep",
    "verify": "api.keep",
    "write_report": "api.judge",
}
"""Public name -> the module that defines it."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{PLACES[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def _version() -> str:
    """Of the installed package; of a copy that is not installed nobody knows it."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("resa-hub")
    except PackageNotFoundError:
        return "0+unknown"
