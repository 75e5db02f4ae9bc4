"""The recipe of an extraction: frozen and strict settings, and a digest of those that differ from the defaults."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from ..core.errors import Usage
from ..core.schema_errors import first_mistake, key_paths
from ..core.strict import Strict, canonical_digest, non_default_values
from ..core.suggest import did_you_mean_key
from .methods import DEFAULT_METHOD, METHODS

if TYPE_CHECKING:
    Method = str
else:
    Method = Literal[tuple(METHODS)]
"""Any name of the table of methods."""
AUTO = "auto"
"""In place of a hookpoint: the screen chooses."""
ALL_LINEAR = "all-linear"
Count = Annotated[int, msgspec.Meta(ge=1)]
Positive = Annotated[float, msgspec.Meta(ge=0)]


class Data(Strict, frozen=True, kw_only=True):
    name: str
    """Registry name, Hub id or local file."""
    rows: Count | None = None
    """Rows taken from the front; null takes all."""
    seed: int = 0
    """For generated data sets only."""
    cot: bool = False
    """Put the chain of thought of the data set's `solution` column between the tags, where the paper's data hold the
    bare answer.
    """


class SaeSettings(Strict, frozen=True, kw_only=True):
    mode: Literal["pretrained", "finetuned", "scratch"] = "finetuned"
    origin: str | None = None
    """Registry name or repository of the SAE that `pretrained` and `finetuned` start from."""
    any_hookpoint: bool = False
    """Take an SAE that was made for another hookpoint, as the reference code does: its FVU here is printed."""
    reset_bias: bool = False
    """finetuned: training begins with the decoder's bias at the mean of the first batch, as the reference code's
    trainer (sparsify) does: an SAE made for another hookpoint is moved to where the states lie.
    """
    accept_bad: bool = False
    """Go on with an SAE that describes the states no better than their mean, or whose latents are nearly all dead."""
    latents: Count = 65_536
    k: Count = 32
    optimizer: Literal["adam", "signum"] = "adam"
    """adam: SAELens' trainer on the squared error; signum: schedule-free sign SGD on the FVU, as the reference code's
    trainer (sparsify) does.
    """
    learning_rate: Positive | None = 2.5e-4
    """null: 5e-3 / sqrt(latents / 2^14), the reference code's choice for signum."""
    encoder: Literal["float32", "bfloat16"] = "float32"
    """Precision of the encoder's forward product in training."""
    skip_first: bool = True
    """Leave the first position out: on real models it holds most of the variance."""
    batch_tokens: Count = 32_768
    epochs: Positive = 1.0
    """Passes over the activations; `steps` overrides it."""
    steps: Count | None = None

    @property
    def rate(self) -> float:
        """The learning rate; sparsify's rule where none is given."""
        return self.learning_rate if self.learning_rate is not None else 5e-3 / (self.latents / 2**14) ** 0.5


class LoraSettings(Strict, frozen=True, kw_only=True):
    rank: Count = 32
    alpha: Count = 128
    dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.05
    modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    """Names of linear modules inside the decoder layers; `all-linear`, and this default, mean every one of them,
    whatever the model calls them.
    """


class Training(Strict, frozen=True, kw_only=True):
    learning_rate: Positive = 1e-6
    epochs: Count = 2
    batch_rows: Count = 1
    """Chunks or rollouts a step."""
    gradient_clip: Positive = 1.0
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """How the rate falls behind the warm-up: not at all; along half a cosine to a tenth; straight to zero."""
    warmup: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    """Share of the steps in which the rate rises straight from zero."""
    weight_decay: Positive = 0.01
    """Of AdamW, torch's default; the public code of the SFT baselines has 0."""
    kl: Literal["teacher-student", "student-teacher"] = "teacher-student"
    """KL(teacher || student) as the reference code computes it, or KL(student || teacher) as the paper writes it."""
    reduction: Literal["sum", "mean"] = "sum"
    """Of the KL over the tokens of a chunk; both average over chunks."""
    chunk_tokens: Count | None = 2_048
    """Length of the packed chunks (examples joined with EOS); null keeps one example a row, bucketed by length."""
    max_tokens: Count | None = None
    """Longest example, its EOS counted, before packing: what lies behind is cut off. null keeps all."""
    mask_prompt: bool = False
    """sft: learn the completion alone, not the question."""


class Rollouts(Strict, frozen=True, kw_only=True):
    count: Count = 1_024
    temperature: Positive = 1.0
    new_tokens: Count = 64
    of_source: bool = True
    """The SAE also sees the source's own rollouts."""
    siblings: tuple[str, ...] = ()
    """Models kin to the target that write an equal part of the rollouts each; on them the teacher is the sibling
    itself, patched.
    """
    difference: Literal["target", "sibling"] = "target"
    """On a sibling's rollouts: the source is compared with the target, or with that sibling."""
    student: Literal["target", "writer"] = "target"
    """What the LoRA stands on while it learns from a sibling's rollouts: the target, or that sibling, so that one LoRA
    has to serve them all.
    """
    source_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """Share of the rollouts that the source writes: a student that has learnt from it comes to write like it. Their
    teacher is the target, patched.
    """


class Screen(Strict, frozen=True, kw_only=True):
    """What is tried before training: how much of the KL between source and target the patched teacher closes."""

    layers: tuple[Annotated[int, msgspec.Meta(ge=0)], ...] = ()
    """For hookpoint `auto`; none given: every layer but the last."""
    features: tuple[Count, ...] = ()
    """Numbers of features (or directions); the smallest that does nearly as well as the best is taken. None given: the
    recipe's.
    """
    scales: tuple[Annotated[float, msgspec.Meta(gt=0)], ...] = ()
    """Factors on the patch, of which the best is taken; none given: the recipe's."""
    rollouts: Count = 64
    """Rollouts of the target to questions of the elicitation data that training does not use."""


class Recipe(Strict, frozen=True, kw_only=True):
    method: Method = DEFAULT_METHOD
    source: str
    target: str
    """The model whose LoRA is trained, usually the source's base."""
    template: Literal["r1", "r1-code"] | None = None
    """r1: the R1 text as the paper prints it; r1-code: with the blanks of the reference code; null: what the registry
    says of the target.
    """
    hookpoint: str = "layers.12"
    """`layers.N` or `layers.N.mlp`, or `auto`: the layer that the screen finds."""
    hookpoints: tuple[str, ...] = ()
    """The methods that patch: several layers at once, the shallowest first; none given: `hookpoint` alone."""
    trigger: Data
    """Data of stage I, the extraction."""
    elicit: Data
    """Data of stage II, the elicitation."""
    sae: SaeSettings = SaeSettings()
    lora: LoraSettings = LoraSettings()
    training: Training = Training()
    rollouts: Rollouts | None = None
    """On-policy rollouts of the target; the methods other than sae-tuning need them."""
    features: Count = 64
    """feature-diff: the k features in which source and target differ most; pca-diff: the number of directions."""
    selection: Literal["mean", "attribution", "logits"] = "mean"
    """feature-diff: rank features by mean |difference|, by the difference times the gradient of the KL to the source,
    or step by step by how far they move the target's logits towards the source's beside those that are chosen already.
    """
    scale: float = 1.0
    """Factor on the patch that the teacher sees."""
    screen: Screen | None = None
    """Layer, number of features and scale are chosen on development rollouts before training."""
    rounds: Count = 1
    """2: after training, once more on rollouts of the student itself."""
    norm_of: str | None = None
    """random: the adapter whose norm is taken module by module, NAME@VERSION of the store or a folder; null: the
    source's own adapter.
    """
    norm: Positive | None = None
    """random: Frobenius norm of the change of every module, in place of `norm_of`."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    seed: int = 0

    @property
    def all_hookpoints(self) -> tuple[str, ...]:
        """All hookpoints, the shallowest first."""
        return self.hookpoints or (self.hookpoint,)

    def __post_init__(self) -> None:
        self.digest()  # NaN and infinity have none: refused here, before any work

    def digest(self) -> str:
        return canonical_digest(non_default_values(self))


class StatedRecipe(Recipe, frozen=True, kw_only=True):
    """A recipe as a file states it: what differs from another."""

    like: str | None = None
    """The recipe that it starts from."""
    note: str = ""


def override(values: dict[str, Any], settings: list[str], recipe: str = "tiny-sae-tuning") -> dict[str, Any]:
    """`values` with each `key.path=value` applied; the value is read as YAML. recipe: its name, for the hint.

    Raises `Usage` for text of another form, for a key that no recipe has, naming the nearest, and for a value of the
    wrong type or out of its range.
    """
    import copy

    changed = copy.deepcopy(values)
    for setting in settings:
        path, value = _setting(setting, recipe)
        *parents, last = path.split(".")
        node = changed
        for parent in parents:
            if node.get(parent) is None:
                node[parent] = {}
            node = node[parent]
        node[last] = value
    return changed


def _setting(setting: str, recipe: str) -> tuple[str, Any]:
    """(dotted key, checked value) of `key.path=value`."""
    import math

    import yaml

    path, equals, text = setting.partition("=")
    path = path.strip()
    if not equals or not path:
        raise Usage(f"--set {setting!r} is not key=value", "for example --set training.learning_rate=1e-4")
    known = list(key_paths(Recipe))
    if path not in known:
        raise Usage(f"--set {path}: a recipe has no such key", did_you_mean_key(path, known))
    try:
        value = _number(yaml.safe_load(text))
    except (yaml.YAMLError, ValueError):  # ValueError: a date such as 2025-99-99
        raise Usage(
            f"--set {path}: {text!r} is not a value", "quote it, or write a number, true, false or null"
        ) from None
    if isinstance(value, float) and not math.isfinite(value):
        raise Usage(f"--set {path}: {text} is no finite number", "write a number, or null")
    nested = value
    for key in reversed(path.split(".")):
        nested = {key: nested}
    if found := first_mistake(nested, Recipe, partial=True):
        raise Usage(f"--set {found}", found.hint or f"`resa-hub recipe show {recipe}` shows every key")
    return path, value


def _number(value: Any) -> Any:
    """YAML 1.1 reads 1e-4 as text; people mean a number."""
    try:
        number = float(value) if isinstance(value, str) else value
    except ValueError:
        return value
    return int(number) if isinstance(number, float) and number.is_integer() else number
