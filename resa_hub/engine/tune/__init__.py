"""Methods of extraction: one file each, one line in the table."""

from collections.abc import Callable
from importlib import import_module

from .session import Extracted, Session

METHODS = {
    "sae-tuning": "sae_tuning:run",
    "feature-diff": "feature_diff:run",
    "random-features": "feature_diff:run_random",
    "pca-diff": "pca_diff:run",
    "logit-distill": "logit_distill:run",
}


def method(name: str) -> Callable[[Session], Extracted]:
    module, function = METHODS[name].split(":")
    return getattr(import_module(f".{module}", __name__), function)
