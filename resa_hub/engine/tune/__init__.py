"""Methods of extraction: one file each, one line in the table."""

from collections.abc import Callable
from importlib import import_module

from .patched import Prepared
from .session import Extracted, Session

METHODS = {
    "sae-tuning": "sae_tuning:run",
    "feature-diff": "feature_diff:run",
    "random-features": "feature_diff:run_random",
    "outside-features": "feature_diff:run_outside",
    "pca-diff": "pca_diff:run",
    "logit-distill": "logit_distill:run",
    "sft": "sft:run",
    "random": "random_lora:run",
    "gaussian": "gaussian:run",
}
SCREENED = {"feature-diff": "feature_diff:prepare", "pca-diff": "pca_diff:prepare"}
"""Methods whose layer, number of features and scale can be tried without training."""


def method(name: str) -> Callable[[Session], Extracted]:
    return _function(METHODS[name])


def screened(name: str) -> Callable[[Session], Prepared]:
    return _function(SCREENED[name])


def _function(place: str) -> Callable:
    module, function = place.split(":")
    return getattr(import_module(f".{module}", __name__), function)
