"""Exit codes and the errors behind them, from the classes."""

import inspect

from resa_hub.cli.main import INTERRUPTED
from resa_hub.core import errors
from resa_hub.core.errors import HubError

from .markdown import block, code, table
from .markdown import page as whole

ABOUT = """Every error that is expected is told in one or two lines on stderr: what is wrong, and the next step. Its
class decides the exit code. With `--json` it is one document; with `--debug` the traceback is shown. In Python it is
a `resa_hub.HubError` with `message`, `hint`, `kind` and `exit_code`."""


def kinds() -> list[type[HubError]]:
    """The classes of errors, by exit code."""
    every = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, HubError)]
    return sorted((kind for kind in every if kind is not HubError), key=lambda kind: kind.exit_code)


def page() -> str:
    rows = [["0", "", "", "Done."]]
    rows += [[str(kind.exit_code), kind.kind, code(kind.__name__), inspect.getdoc(kind) or ""] for kind in kinds()]
    rows.append([str(INTERRUPTED), "interrupted", code("KeyboardInterrupt"), "Ctrl-C; what was finished is kept."])
    document = '{"error": {"kind": "not found", "message": "...", "hint": "..."}}'
    return whole(
        "Exit codes",
        ABOUT,
        table(["code", "kind", "in Python", "when"], rows),
        block(document, "json"),
        "`verify` and `reproduce` end with 1 or the code of the error that they found, `doctor` with 1 where something "
        "does not work, `registry pin` with 3 where a name has no commit.",
    )
