"""Methods of extraction: one file each, one line in the table."""

from collections.abc import Callable
from importlib import import_module

from ..sae.activations import Sources
from .activation_patching import TeacherSetup
from .context import ExtractionContext, MethodOutput

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
TEXTS = {
    "sae-tuning": "sae_tuning:sae_texts",
    "gaussian": "sae_tuning:sae_texts",
    "feature-diff": "feature_diff:sae_texts",
    "random-features": "feature_diff:sae_texts",
    "outside-features": "feature_diff:sae_texts",
}
"""What stage I of each method with an SAE reads, whatever the layer: a sweep trains the SAEs of all layers on one pass
over it.
"""


def sae_texts(name: str) -> Callable[[ExtractionContext], tuple[Sources, Sources]]:
    return _function(TEXTS[name])


def method(name: str) -> Callable[[ExtractionContext], MethodOutput]:
    return _function(METHODS[name])


def screened(name: str) -> Callable[[ExtractionContext], TeacherSetup]:
    return _function(SCREENED[name])


def _function(place: str) -> Callable:
    module, function = place.split(":")
    return getattr(import_module(f".{module}", __name__), function)
