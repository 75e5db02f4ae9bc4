"""The embedded family of tiny reasoning models: real transformers weights inside the package, found by name."""

from pathlib import Path

PREFIX = "resa-hub/"
WEIGHTS = Path(__file__).parent / "weights"


def locate(model_id: str) -> Path | None:
    """The folder of an embedded model or adapter such as `resa-hub/tiny-r1`; None for any other id."""
    name = model_id.removeprefix(PREFIX)
    inside = model_id.startswith(PREFIX) and "/" not in name and name not in ("", ".", "..")
    return WEIGHTS / name if inside and (WEIGHTS / name).is_dir() else None
