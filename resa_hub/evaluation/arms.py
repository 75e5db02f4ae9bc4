"""The arms of an evaluation: base, source, adapters, and what they are held against."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..adapter.fit import assess_fit, read_lora
from ..adapter.layout import CONFIG, WEIGHTS
from ..adapter.manifest import Manifest
from ..adapter.store import Adapter
from ..config.methods import ARMS
from ..config.refs import ModelRef
from ..core.errors import Network, NotFound, Usage, did_you_mean
from ..core.files import hash_file
from ..core.strict import canonical_digest
from ..data.snapshots import Files, locate

BASE, ADAPTER = "base", "adapter"
SOURCE, SOURCE_MODEL = "source", "source-model"
RANDOM, NEGATED, PROMPT = "random", "negated", "prompt-only"
CHOICES = (SOURCE, RANDOM, NEGATED, PROMPT, *ARMS)
USUAL = (SOURCE, RANDOM, *ARMS)
"""Without `--arms`; base and the named adapters are always there."""
Role = str
"""base, source, source-model, adapter, random, negated, prompt-only, or a method of `config.methods.ARMS`."""


@dataclass(frozen=True)
class Arm:
    """A model to sample: a base, perhaps with an adapter on it."""

    name: str
    role: Role
    base: Files
    folder: Path | None = None
    """The PEFT adapter."""
    template: str | None = None
    """How a question is put: see `engine.model.tokens.prompt`."""
    control_of: str = ""
    """For a control: the name of its adapter's arm."""
    origin: Path | None = None
    """For a control made on the fly: the folder of that adapter."""
    texts: tuple[str, ...] = ()
    """Probe texts of the self-check that the adapter changes logits."""

    @property
    def identity(self) -> str:
        """Equal for equal bytes, so that evaluations share samples."""
        adapter = [hash_file(self.folder / name)[1] for name in (CONFIG, WEIGHTS)] if self.folder else []
        return canonical_digest([self.base.weights_digest, adapter])


def arm_kinds(words: Iterable[str]) -> tuple[str, ...]:
    """Kinds of arms by their names, in the order of `CHOICES`; `usual`, `all` and `none` are words too. Raises `Usage`
    for another.
    """
    groups = {"usual": USUAL, "all": CHOICES, "none": ()} | {kind: (kind,) for kind in CHOICES}
    wanted: set[str] = set()
    for word in filter(None, map(str.strip, words)):
        if word not in groups:
            raise Usage(f"no arm is called {word!r}", did_you_mean(word, list(groups)))
        wanted.update(groups[word])
    return tuple(kind for kind in CHOICES if kind in wanted)


@contextlib.contextmanager
def source_errors(source: str) -> Iterator[None]:
    """The error of a source that is not to be had says how to do without it: it may lie on its maker's machine."""
    try:
        yield
    except (NotFound, Network) as error:
        raise type(error)(
            f"the source {source}: {error.message}", f"{error.hint}; or without it: --arms random"
        ) from None


def source_arms(manifest: Manifest, target: Files) -> list[Arm]:
    """The source's own adapter on the target, where there is one and it fits; beside it the source model itself when
    that is another model.
    """
    if not manifest.source:  # imported: nobody knows what it was made from
        return []
    ref, texts = ModelRef.parse(manifest.source), manifest.probe_texts
    with source_errors(manifest.source):
        # The small part first: what it lacks is told before a whole model is fetched.
        adapter = locate(ref.adapter, "adapter").folder if ref.adapter else None
        base = locate(ref.base)
    if adapter is None:
        return [Arm(SOURCE, SOURCE, base)]
    own_base = base.weights_digest == target.weights_digest
    arms = []
    if own_base or assess_fit(None, read_lora(adapter), target).usable:
        arms.append(Arm(SOURCE, SOURCE, target, adapter, texts=texts))
    if not own_base:
        arms.append(Arm(SOURCE_MODEL if arms else SOURCE, SOURCE_MODEL, base, adapter, texts=texts))
    return arms


def adapter_arms(
    adapter: Adapter, label: str, target: Files, controls: Path, seeds: int, kinds: Sequence[str]
) -> list[Arm]:
    """The adapter, its random controls of equal norm per module, one for each seed from 1, and its negative.

    controls: the folder where control adapters are kept. kinds: of which RANDOM and NEGATED concern this adapter.
    """
    texts = adapter.manifest.probe_texts
    digest = adapter.manifest.content_hash.partition(":")[2][:16]

    def control(role: Role, name: str) -> Arm:
        folder = controls / f"{digest}-{name}"
        return Arm(f"{label} {name}", role, target, folder, control_of=label, origin=adapter.folder, texts=texts)

    arms = [Arm(label, ADAPTER, target, adapter.folder, texts=texts)]
    if RANDOM in kinds:
        arms += [control(RANDOM, f"random-{seed}") for seed in range(1, seeds + 1)]
    if NEGATED in kinds:
        arms.append(control(NEGATED, "negated"))
    return arms


def peer(adapter: Adapter, others: Iterable[Adapter], method: str) -> Adapter | None:
    """The adapter that another method made of the same source, base and data: at the same hookpoint if there is one,
    else the latest.
    """
    manifest = adapter.manifest

    def comparable(other: Manifest) -> bool:
        return (
            other.method == method != manifest.method
            and other.source == manifest.source
            and other.base.weights == manifest.base.weights
            and _data(other) == _data(manifest)
        )

    def preference(other: Adapter) -> tuple[bool, str, str]:
        about = other.manifest
        return about.hookpoint == manifest.hookpoint, about.run.created, about.reference

    return max((other for other in others if comparable(other.manifest)), key=preference, default=None)


def _data(manifest: Manifest) -> dict[str, str]:
    """Role of a data set -> fingerprint of its rows."""
    return {role: record.fingerprint for role, record in manifest.data.items()}
