"""The arms of an evaluation: base, source, adapters, and what they are held against."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..adapter import fit
from ..adapter.layout import CONFIG, WEIGHTS
from ..adapter.manifest import Manifest
from ..adapter.store import Adapter
from ..config.refs import ModelRef
from ..core.errors import Usage, did_you_mean
from ..core.files import hash_file
from ..core.strict import canonical_digest
from ..data.snapshots import Files, locate

SOURCE, SOURCE_MODEL, BASE = "source", "source-model", "base"
RANDOM, NEGATED, PROMPT = "random", "negated", "prompt-only"
MADE = ("sft", "pca-diff")
"""Methods of extraction that are controls of the others where the store has them."""
CHOICES = (SOURCE, RANDOM, NEGATED, PROMPT, *MADE)
USUAL = (SOURCE, RANDOM, *MADE)
"""Without `--arms`; base and the named adapters are always there."""
Role = Literal["base", "source", "source-model", "adapter", "random", "negated", "prompt-only", "sft", "pca-diff"]


@dataclass(frozen=True)
class Arm:
    """A model to sample: a base, perhaps with an adapter on it."""

    name: str
    role: Role
    base: Files
    folder: Path | None = None
    """The PEFT adapter."""
    template: str | None = None
    """How a question is put: see `engine.text.prompt`."""
    of: str = ""
    """For a control: the adapter it belongs to."""
    origin: Path | None = None
    """For a control made on the fly: the folder of that adapter."""
    texts: tuple[str, ...] = ()
    """Probe texts of the self-check that the adapter changes logits."""

    @property
    def identity(self) -> str:
        """Equal for equal bytes: samples are shared by whoever asks."""
        adapter = [hash_file(self.folder / name)[1] for name in (CONFIG, WEIGHTS)] if self.folder else []
        return canonical_digest([self.base.weights_digest, adapter])


def chosen(words: Iterable[str]) -> tuple[str, ...]:
    """Kinds of arms as they were asked for; `usual`, `all` and `none` are words too. Raises `Usage` for another."""
    groups = {"usual": USUAL, "all": CHOICES, "none": ()} | {kind: (kind,) for kind in CHOICES}
    asked = [word.strip() for word in words if word.strip()]
    for word in asked:
        if word not in groups:
            raise Usage(f"no arm is called {word!r}", did_you_mean(word, list(groups)))
    return tuple(kind for kind in CHOICES if any(kind in groups[word] for word in asked))


def source_arms(manifest: Manifest, target: Files) -> list[Arm]:
    """The source's own adapter on the target, where there is one and it fits; beside it the source model itself when
    that is another model.
    """
    if not manifest.source:  # imported: nobody knows what it was made from
        return []
    ref = ModelRef.parse(manifest.source)
    base = locate(ref.base)
    texts = manifest.probe_texts
    if ref.adapter is None:
        return [Arm(SOURCE, SOURCE, base)]
    adapter = locate(ref.adapter, "adapter").folder
    own_base = base.weights_digest == target.weights_digest
    arms = []
    if own_base or fit.assess(None, fit.read_lora(adapter), target).usable:
        arms.append(Arm(SOURCE, SOURCE, target, adapter, texts=texts))
    if not own_base:
        arms.append(Arm(SOURCE_MODEL if arms else SOURCE, SOURCE_MODEL, base, adapter, texts=texts))
    return arms


def adapter_arms(
    adapter: Adapter, label: str, target: Files, controls: Path, seeds: int, kinds: Sequence[str]
) -> list[Arm]:
    """The adapter, its random controls of equal norm per module, and itself negated; `controls` is the folder where
    controls are kept.
    """
    texts = adapter.manifest.probe_texts
    made = [Arm(label, "adapter", target, adapter.folder, texts=texts)]
    short = adapter.manifest.content_hash.partition(":")[2][:16]
    own = {"of": label, "origin": adapter.folder, "texts": texts}
    for seed in range(1, seeds + 1) if RANDOM in kinds else ():
        made.append(Arm(f"{label} random-{seed}", "random", target, controls / f"{short}-random-{seed}", **own))
    if NEGATED in kinds:
        made.append(Arm(f"{label} negated", "negated", target, controls / f"{short}-negated", **own))
    return made


def peer(adapter: Adapter, others: Iterable[Adapter], method: str) -> Adapter | None:
    """The adapter that another method made of the same source, base and data: at the same hookpoint if there is one,
    else the latest.
    """
    one = adapter.manifest

    def alike(other: Manifest) -> bool:
        return (
            other.method == method != one.method
            and other.source == one.source
            and other.base.weights == one.base.weights
            and _data(other) == _data(one)
        )

    found = [other for other in others if alike(other.manifest)]
    return max(
        found,
        key=lambda other: (
            other.manifest.hookpoint == one.hookpoint,
            other.manifest.run.created,
            other.manifest.reference,
        ),
        default=None,
    )


def _data(manifest: Manifest) -> dict[str, str]:
    return {role: record.fingerprint for role, record in manifest.data.items()}
