"""How each method of `config/methods.py` extracts: one file each."""

from collections.abc import Callable

from ...config.methods import METHODS
from ...core.plugins import resolve
from ..sae.activations import Sources
from .activation_patching import TeacherSetup
from .context import ExtractionContext, MethodOutput


def method(name: str) -> Callable[[ExtractionContext], MethodOutput]:
    """What runs stage I and stage II."""
    return resolve(METHODS[name].run, __name__)


def screened(name: str) -> Callable[[ExtractionContext], TeacherSetup]:
    """What the screen tries: everything that the method finds before it trains."""
    prepare = METHODS[name].prepare
    assert prepare, f"{name} has no screen"
    return resolve(prepare, __name__)


def sae_texts(name: str) -> Callable[[ExtractionContext], tuple[Sources, Sources]]:
    """(training texts, held-out texts) of stage I, whatever the layer: a sweep trains the SAEs of all layers on one
    pass over them.
    """
    texts = METHODS[name].sae_texts
    assert texts, f"{name} has no SAE"
    return resolve(texts, __name__)
