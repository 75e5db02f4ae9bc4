"""The arms of an evaluation: base, source, adapters, and norm-matched random controls made on the fly."""

from dataclasses import dataclass
from pathlib import Path

from ..adapter import compat
from ..adapter.files import CONFIG, WEIGHTS, hash_file
from ..adapter.manifest import Manifest
from ..adapter.store import Adapter
from ..recipe import canonical_digest
from ..refs import ModelRef
from ..sources import Files, locate

SOURCE, SOURCE_MODEL, BASE = "source", "source-model", "base"


@dataclass(frozen=True)
class Arm:
    """A model to sample: a base, perhaps with an adapter on it."""

    name: str
    role: str
    """base, source, source-model, adapter or random."""
    base: Files
    folder: Path | None = None
    """The PEFT adapter."""
    of: str = ""
    """For a control: the adapter it belongs to."""
    texts: tuple[str, ...] = ()
    """Probe texts of the self-check that the adapter changes logits."""

    @property
    def identity(self) -> str:
        """Equal for equal bytes: samples are shared by whoever asks."""
        adapter = [hash_file(self.folder / name)[1] for name in (CONFIG, WEIGHTS)] if self.folder else []
        return canonical_digest([self.base.weights_digest, adapter])


def source_arms(manifest: Manifest, target: Files) -> list[Arm]:
    """The source's own adapter on the target, where there is one and it fits; beside it the source model itself when that is another model."""
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
    if own_base or compat.assess(None, compat.read_lora(adapter), target).usable:
        arms.append(Arm(SOURCE, SOURCE, target, adapter, texts=texts))
    if not own_base:
        arms.append(Arm(SOURCE_MODEL if arms else SOURCE, SOURCE_MODEL, base, adapter, texts=texts))
    return arms


def adapter_arms(adapter: Adapter, label: str, target: Files, controls: Path, seeds: int) -> list[Arm]:
    """The adapter and its random controls of equal norm per module; `controls` is the folder where controls are kept."""
    texts = adapter.manifest.probe_texts
    made = [Arm(label, "adapter", target, adapter.folder, texts=texts)]
    short = adapter.manifest.content_hash.partition(":")[2][:16]
    for seed in range(1, seeds + 1):
        made.append(Arm(f"{label} random-{seed}", "random", target, controls / f"{short}-random-{seed}", of=label, texts=texts))
    return made
