"""The models of one extraction, each loaded when it is first used; all that stand on the target's base share its
weights.
"""

from functools import cached_property

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...core.flops import Sizes
from ..cost_tracker import sizes
from ..model.loading import load, load_tokenizer
from ..model.partial_forward import check_splittable
from ..model.shared_base import twin, with_lora
from .inputs import MethodInputs


class ExtractionModels:
    """Frozen models by the names that a recipe gives them: `source`, `target`, and those of its siblings.

    Source and student are the target with a LoRA on it, most often: then its weights are in memory once. A source that
    is a whole model has its own.
    """

    def __init__(self, inputs: MethodInputs, dtype: str) -> None:
        self.files = {"source": inputs.source, "target": inputs.target} | dict(inputs.siblings)
        self.dtype = dtype
        self._siblings: dict[str, PreTrainedModel] = {}

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The target's: all models of an extraction are kin and share its vocabulary."""
        return load_tokenizer(self.files["target"].base)

    @cached_property
    def source(self) -> PreTrainedModel:
        return self._on_target("source") or load(self.files["source"], self.dtype)

    @cached_property
    def target(self) -> PreTrainedModel:
        """Raises `DoesNotFit` for an architecture that cannot be cut at a layer."""
        model = load(self.files["target"], self.dtype)
        check_splittable(model)
        return model

    @cached_property
    def target_sizes(self) -> Sizes:
        """Parameters that do work on each token, for estimates of cost."""
        return sizes(self.target)

    def named(self, name: str) -> PreTrainedModel:
        """`source`, `target` or a sibling."""
        if name == "source":
            return self.source
        if name == "target":
            return self.target
        if name not in self._siblings:
            self._siblings[name] = self._on_target(name) or load(self.files[name], self.dtype)
        return self._siblings[name]

    def new_twin(self, name: str = "target") -> PreTrainedModel:
        """The target, or a sibling, once more, to carry a LoRA: it shares the weights of the first."""
        if name != "target" and self.files[name].adapter:  # its weights are merged anew at each product
            return load(self.files[name], self.dtype)
        return twin(self.named(name))

    def _on_target(self, name: str) -> PreTrainedModel | None:
        """The model of this name on the target's weights; None where it stands on others."""
        base, adapter = self.files[name]
        if self.files["target"].adapter or base.folder.resolve() != self.files["target"].base.folder.resolve():
            return None
        return with_lora(self.target, adapter.folder) if adapter else twin(self.target)
