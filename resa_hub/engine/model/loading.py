"""Loading models and tokenizers from local files; the number of threads that suits their size."""

from typing import NamedTuple

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging

from ...core import torchrun
from ...core.errors import DoesNotFit, RunFailed
from ...core.files import read_json
from ...core.progress import waiting
from ...core.quantities import size
from ...data.snapshots import Files
from ..backends import configure
from .lora import merge

SMALL_MODEL = 5_000_000
"""Below this many parameters one thread is faster than two."""
PLAIN_CLASSES = ("TokenizersBackend", "PreTrainedTokenizerFast")
"""Tokenizer classes for which tokenizer.json is all there is to know."""
logging.set_verbosity_error()
logging.disable_progress_bar()


class Source(NamedTuple):
    """A model's files: its base and the adapter on it, if any."""

    base: Files
    adapter: Files | None = None

    @property
    def revision(self) -> str:
        return self.base.revision + (f"+{self.adapter.revision}" if self.adapter else "")


def device() -> torch.device:
    """This process's own GPU, else the CPU; torch computes as `backends` says from here on."""
    configure()
    return torch.device("cuda", torchrun.local_rank()) if torch.cuda.is_available() else torch.device("cpu")


def is_emulated(dtype: str) -> bool:
    """Whether products of this type are emulated here: bfloat16 on a processor without such instructions takes 5 to 70
    times as long as float32.
    """
    return dtype == "bfloat16" and device().type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def load_base(files: Files, dtype: str = "float32") -> PreTrainedModel:
    """The frozen base model in evaluation mode, without remote code, on `device()`.

    Raises `DoesNotFit` for a type that transformers has no causal LM of, `RunFailed` for files that cannot be loaded.
    """
    _check_type(files)
    with waiting(f"loading {files.id}", size(sum(path.stat().st_size for path in files.weights))):
        model = _read(files, dtype).requires_grad_(False)
        if model.num_parameters() < SMALL_MODEL:
            torch.set_num_threads(1)
        model.to(device())  # pyright: ignore[reportArgumentType]
    return model.eval()


def _read(files: Files, dtype: str) -> PreTrainedModel:
    try:
        return AutoModelForCausalLM.from_pretrained(files.folder, dtype=getattr(torch, dtype), trust_remote_code=False)
    except (ValueError, OSError, RuntimeError) as error:
        raise RunFailed(
            f"{files.id} cannot be loaded: {str(error).splitlines()[0][:200]}",
            "it must be a causal LM that transformers knows",
        ) from None


def _check_type(files: Files) -> None:
    model_type = files.config.get("model_type")
    if model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return
    if files.config.get("auto_map"):
        raise DoesNotFit(
            f"{files.id} needs code of its own (remote code, {model_type}): it is never run here",
            "use a model that transformers knows by itself",
        )
    raise DoesNotFit(
        f"{files.id} is no causal LM that this transformers knows ({model_type})",
        "use a decoder-only model, or a newer transformers",
    )


def load(source: Source, dtype: str = "float32") -> PreTrainedModel:
    """The base, with the adapter merged into it where there is one; raises as `load_base` and `load_lora`."""
    model = load_base(source.base, dtype)
    if not source.adapter:
        return model
    with waiting(f"merging {source.adapter.id} into {source.base.id}"):
        return merge(model, source.adapter.folder).requires_grad_(False)


def load_tokenizer(files: Files) -> PreTrainedTokenizerBase:
    """The tokenizer as it was saved; raises `RunFailed` for files that cannot be loaded.

    AutoTokenizer would turn a qwen2 folder's own one into a byte-level BPE that drops unknown characters, so a plain
    tokenizer is read as what it is.
    """
    config = files.folder / "tokenizer_config.json"
    try:
        saved_class = read_json(config.resolve()).get("tokenizer_class") if config.is_file() else None
        plain = saved_class in PLAIN_CLASSES and (files.folder / "tokenizer.json").is_file()
        loader = PreTrainedTokenizerFast if plain else AutoTokenizer
        return loader.from_pretrained(files.folder, trust_remote_code=False)
    except (ValueError, OSError) as error:
        raise RunFailed(
            f"the tokenizer of {files.id} cannot be loaded: {str(error).splitlines()[0][:200]}",
            "the folder needs its tokenizer files",
        ) from None


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Ids that end a completion: those of the generation config and the tokenizer's EOS."""
    configured = model.generation_config.eos_token_id if model.generation_config else None
    ends = configured if isinstance(configured, list) else [configured]
    return {token for token in (*ends, tokenizer.eos_token_id) if isinstance(token, int)}
