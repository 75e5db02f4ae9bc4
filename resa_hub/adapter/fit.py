"""Would an adapter fit a model? Answered from headers and hashes alone, before anything heavy is loaded.

The levels of a fit, best first:

exact    the weights that the adapter was made on, hash for hash
kin      the same shapes; sampled weights correlate with those of its base at `KIN_CORRELATION` or more: close lineage
distant  the same shapes; they correlate at `DISTANT_CORRELATION` or more, or the base's weights are not recorded
foreign  other shapes, modules that are missing, or weights that correlate less: unrelated
"""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..core.errors import DoesNotFit, Integrity, NoEffect, RunFailed
from ..core.files import ASK_AUTHOR, read_json
from ..core.tensors import TensorInfo, read_tensor, safetensors_header
from .layout import CONFIG, WEIGHTS
from .manifest import Base
from .weight_fingerprint import correlation, shapes

LEVELS = ("exact", "kin", "distant", "foreign")
KIN_CORRELATION, DISTANT_CORRELATION = 0.98, 0.5
"""Measured on the embedded family: siblings .99 and more, earlier ancestors .9, a permuted copy about 0."""
VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as max_lora_rank."""
MAX_RANK = 1_024
TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<part>[AB])\.weight")
Modules = dict[str, dict[str, TensorInfo]]
"""module -> {A: [rank, in], B: [out, rank]}."""


class Fit(NamedTuple):
    level: str
    """One of `LEVELS`."""
    correlation: float | None
    """Of sampled weights with the adapter's base; None where it was not measured."""
    reason: str
    obstacle: str = ""
    """Why nothing can force it: `shapes` (other sizes) or `disjoint` (no module of the adapter exists in the target).
    """
    zero: bool = False
    """The adapter's weights are zero: it changes nothing, wherever it is."""

    @property
    def usable(self) -> bool:
        return self.level != "foreign"


class LoraFile(NamedTuple):
    """A checked PEFT adapter folder."""

    rank: int
    scaling: float
    modules: Modules
    zero: bool = False
    """No module has both an A and a B other than zero: whole and in order, yet it changes nothing."""


def read_lora(folder: Path, zero: bool = False) -> LoraFile:
    """Check an adapter's config and tensors against each other.

    zero: take one whose weights are zero all the same. To use it is a mistake; to judge it is to say what it is.
    Raises `Integrity`, and `NoEffect` where the adapter could change nothing.
    """
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict) or config.get("peft_type") != "LORA" or config.get("auto_mapping"):
        raise Integrity(f"{CONFIG} does not describe a LoRA", "resa-hub attaches plain PEFT LoRA adapters")
    rank, scaling = _rank_and_scaling(config)
    modules = _lora_modules(folder / WEIGHTS)
    for module, parts in modules.items():
        if set(parts) != {"A", "B"} or parts["A"].shape[0] != parts["B"].shape[1] or len(parts["A"].shape) != 2:
            raise Integrity(f"the LoRA of {module} is not a pair of matching matrices", ASK_AUTHOR)
        if parts["A"].shape[0] != rank and not config.get("rank_pattern"):
            raise Integrity(f"the LoRA of {module} has rank {parts['A'].shape[0]}, {CONFIG} says {rank}", ASK_AUTHOR)
    changing = changes_weights(folder / WEIGHTS, modules)
    if not changing and not zero:
        raise NoEffect(
            "every B of the adapter is zero: it changes nothing",
            "extract it again, with a larger learning rate or more steps",
        )
    return LoraFile(rank, scaling, modules, zero=not changing)


def _rank_and_scaling(config: dict[str, Any]) -> tuple[int, float]:
    """r, and alpha / r or, with `use_rslora`, alpha / sqrt(r)."""
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or isinstance(rank, bool) or not 0 < rank <= MAX_RANK:
        raise Integrity(f"{CONFIG}: rank {rank!r} is not between 1 and {MAX_RANK}", ASK_AUTHOR)
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not math.isfinite(alpha):
        raise Integrity(f"{CONFIG}: lora_alpha {alpha!r} is not a finite number", ASK_AUTHOR)
    scaling = alpha / (rank**0.5 if config.get("use_rslora") else rank)
    if scaling == 0:
        raise NoEffect("the adapter's scale is 0 (lora_alpha 0): it changes nothing", "extract it again")
    return rank, scaling


def _lora_modules(path: Path) -> Modules:
    """The tensors of a weights file by module; raises `NoEffect` for a name that PEFT would pass over."""
    modules: Modules = {}
    for name, info in safetensors_header(path).items():
        match = TENSOR.fullmatch(name)
        if not match:
            raise NoEffect(
                f"tensor {name!r} is no LoRA tensor that a loader would find",
                "its keys were renamed: pull or extract it again",
            )
        modules.setdefault(match["module"], {})[match["part"]] = info
    if not modules:
        raise NoEffect("the adapter holds no tensors", "extract it again")
    return modules


def rank_for(folders: Iterable[Path]) -> int:
    """The largest rank of the adapters, rounded up to one that vLLM takes; raises `RunFailed` beyond."""
    rank = max(
        info.shape[0]
        for folder in folders
        for name, info in safetensors_header(folder / WEIGHTS).items()
        if ".lora_A." in name
    )
    for allowed in VLLM_RANKS:
        if rank <= allowed:
            return allowed
    raise RunFailed(
        f"rank {rank} is more than the {VLLM_RANKS[-1]} that vLLM takes", "--engine transformers takes any rank"
    )


def changes_weights(path: Path, modules: Modules) -> bool:
    """Whether any module has both an A and a B other than zero; raises `Integrity` at NaN and infinities."""
    import numpy

    changing = False
    for module, parts in modules.items():
        # The extremes tell both, without a mask as large as the weights: NaN is one of them wherever there is any.
        matrices = (read_tensor(path, parts[part])[:] for part in "AB")
        extremes = [(matrix.min(), matrix.max()) for matrix in matrices if matrix.size]
        if not numpy.isfinite(extremes).all():
            raise Integrity(f"the LoRA of {module} holds NaN or infinite numbers", ASK_AUTHOR)
        changing = changing or (len(extremes) == 2 and all(low or high for low, high in extremes))
    return changing


def assess_fit(base: Base | None, lora: LoraFile, target: Any) -> Fit:
    """How an adapter fits the model in the files `target` (`data.snapshots.Files`).

    base: the adapter's record of the model it was made on; None for an adapter without a manifest.
    """
    misfit = _other_shapes(base.shapes if base else {}, target.config) or _other_modules(lora, target)
    if misfit:
        return misfit
    if base is None or not base.weights:
        return Fit(
            "distant", None, "the adapter carries no record of its base's weights, so kinship cannot be measured"
        )
    if base.weights == target.weights_digest:
        return Fit("exact", 1.0, "the adapter's own base, hash for hash")
    r = correlation(base.sketch, target.weights)
    if r >= KIN_CORRELATION:
        return Fit("kin", r, f"same shapes, weights correlate at {r:.3f}: close lineage")
    if r >= DISTANT_CORRELATION:
        return Fit(
            "distant", r, f"same shapes, but weights correlate only at {r:.3f}: expect little, evaluate before use"
        )
    # NaN ends here too: it is neither more nor less than any bound.
    return Fit("foreign", r, f"same shapes, unrelated weights (correlation {r:.3f})")


def check_sizes(base: Base, config: dict[str, Any], adapter: str, target: str) -> None:
    """Raise `DoesNotFit` where the target's config.json alone, or the part of it that is known, says that it has other
    sizes than the adapter's base.
    """
    known = {key: size for key, size in base.shapes.items() if key in config}
    misfit = _other_shapes(known, config)
    if misfit:
        require_fit(misfit, adapter, target)


def _misfit(reason: str, obstacle: str = "shapes") -> Fit:
    return Fit("foreign", None, reason, obstacle)


def _other_shapes(theirs: Mapping[str, Any], config: dict[str, Any]) -> Fit | None:
    """A misfit where the target's config differs from the base's in a size other than that of the vocabulary."""
    ours = shapes(config)
    different = [key for key in theirs if key != "vocab_size" and ours.get(key) != theirs[key]]
    if not different:
        return None
    return _misfit("other shapes: " + ", ".join(f"{key} {ours.get(key)} instead of {theirs[key]}" for key in different))


def _other_modules(lora: LoraFile, target: Any) -> Fit | None:
    """A misfit where a module of the LoRA is missing in the target or has another size there."""
    weights = {name: info for path in target.weights for name, info in safetensors_header(path.resolve()).items()}
    missing = [module for module in lora.modules if f"{module}.weight" not in weights]
    if len(missing) == len(lora.modules):
        return _misfit(f"none of its modules exists in {target.id} ({missing[0]}, ...)", "disjoint")
    if missing:
        return _misfit(f"{target.id} has no module {missing[0]} ({len(missing)} of {len(lora.modules)} are missing)")
    for module, parts in lora.modules.items():
        wanted, present = (parts["B"].shape[0], parts["A"].shape[1]), weights[f"{module}.weight"].shape
        if wanted != present:
            return _misfit(f"{module} is {present[0]} x {present[1]}, the adapter needs {wanted[0]} x {wanted[1]}")
    return None


def require_fit(fit: Fit, adapter: str, target: str, force: bool = False) -> None:
    """Raise `DoesNotFit` for a foreign target, `NoEffect` for disjoint modules.

    force: let unrelated weights pass, never other shapes.
    """
    if fit.usable or (force and not fit.obstacle):
        return
    hint = f"`resa-hub list --target {target}` shows what fits"
    if fit.obstacle == "disjoint":
        raise NoEffect(f"{adapter} would change nothing in {target}: {fit.reason}", hint)
    forced = "" if fit.obstacle else "; --force attaches it all the same"
    raise DoesNotFit(f"{adapter} does not fit {target}: {fit.reason}", hint + forced)
