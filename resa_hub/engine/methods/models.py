"""The models of one extraction, each loaded when it is first used."""

from functools import cached_property

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...core.flops import Sizes
from ..cost_tracker import sizes
from ..model.loading import load, load_tokenizer
from ..model.partial_forward import check_splittable
from .inputs import MethodInputs


class ExtractionModels:
    """Frozen models by the names that a recipe gives them: `source`, `target`, and those of its siblings."""

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
        return load(self.files["source"], self.dtype)

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
            self._siblings[name] = load(self.files[name], self.dtype)
        return self._siblings[name]

    def new_copy(self, name: str = "target") -> PreTrainedModel:
        """A second copy of the target, or of a sibling, to carry the LoRA of the student."""
        return load(self.files[name], self.dtype)
