"""The embedded family of tiny reasoning models: real transformers weights inside the package, found by name."""

from pathlib import Path

PREFIX = "resa-hub/"
WEIGHTS = Path(__file__).parent / "weights"


def locate(model_id: str) -> Path | None:
    """The folder of an embedded model or adapter such as `resa-hub/tiny-r1`; None for any other id."""
    folder = WEIGHTS / model_id.removeprefix(PREFIX)
    return folder if model_id.startswith(PREFIX) and "/" not in model_id.removeprefix(PREFIX) and folder.is_dir() else None
