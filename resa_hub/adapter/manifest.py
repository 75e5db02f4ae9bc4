"""`resa.json`: what an adapter is, from what it was made, and the hashes of its bytes."""

from pathlib import Path
from typing import Any, Literal

import msgspec

from ..config.recipe import Recipe
from ..config.refs import NAME, VERSION
from ..core.errors import Integrity
from ..core.files import read_json
from ..core.strict import Strict
from .layout import MANIFEST, FileEntry, content_hash, identity_of

SCHEMA = 1
PROBE_TEXTS = ("1+1=", "7*7-8+6-4=", "3+4*5-6=")
"""For adapters without texts of their own; any tokenizer knows these characters, the embedded family's too."""


class Sketch(Strict, frozen=True):
    """A fingerprint of the base's weights: 4,096 entries of its decoder matrices, about 11 KB of text.

    `values` is base64 of little-endian float16, each entry divided by its matrix' root mean square over the sample.
    """

    tensors: int
    values: str


class Base(Strict, frozen=True):
    """The model an adapter was trained on. Of an imported adapter whose base was not at hand, only id and revision are
    known.
    """

    id: str
    revision: str
    """Commit on the Hub; the digest of the weights for an embedded or local model."""
    weights: str
    """sha256 over the hashes of the weight files."""
    config: str
    tokenizer: str
    chat_template: str
    shapes: dict[str, Any]
    sketch: Sketch


class Probe(Strict, frozen=True, omit_defaults=True):
    """Texts on which the adapter's effect is measured."""

    texts: tuple[str, ...]
    kl: float
    """KL(with || without adapter), nats a token, mean over positions."""
    dtype: Literal["float32"] | None = None
    """What it was computed in, whatever the model was held in. Absent from adapters made before it was recorded: there
    it is the manifest's `dtype`.
    """


class SaeInit(Strict, frozen=True, kw_only=True):
    """The SAE that modes pretrained and finetuned start from."""

    digest: str
    """sha256 over the hashes of its config and weights."""
    format: str
    hookpoint: str | None = None
    """What it was made for, null where nothing says so."""
    fvu_here: float | None = None
    """FVU at the recipe's hookpoint before any training, on held-out tokens, the first position left out."""
    fvu_there: float | None = None
    """The same at its own hookpoint, where that is another one."""


class SaeRecord(Strict, frozen=True):
    origin: str
    hookpoint: str
    latents: int
    k: int
    quality: dict[str, float]
    """On held-out tokens; `engine.sae.quality` explains the keys."""
    start: SaeInit | None = None


class Sibling(Strict, frozen=True):
    """A model beside the target that wrote rollouts; `source` and `source_revision` are written in the same way."""

    id: str
    """`owner/name` or folder, perhaps with a LoRA on it: `base+adapter`."""
    revision: str
    """Commit on the Hub, else the digest of the weights; `base+adapter` where there is a LoRA."""


class DataRecord(Strict, frozen=True):
    name: str
    id: str
    revision: str
    fingerprint: str
    """sha256 over the texts that were used."""
    rows: int
    dropped: int = 0
    """Rows left out because they lacked a question or an answer."""


class Cost(Strict, frozen=True, kw_only=True):
    """What one stage took. Operations are estimates: `core.flops` has the formulas."""

    seconds: float = 0.0
    """Of the work that was kept: what a kill undid is not in it."""
    tokens: int = 0
    operations: float = 0.0
    """Floating-point operations."""
    memory: int = 0
    """Bytes of main memory at most, the whole process."""
    gpu_memory: int | None = None
    """Bytes that torch held at most on one GPU."""
    joules: float | None = None
    """By the machine's own counters, other processes included; absent where it has none."""


class Run(Strict, frozen=True):
    """What the extraction took; no part of the adapter's identity."""

    created: str
    seconds: float
    tokens: int
    stages: dict[str, float]
    hardware: str
    libraries: dict[str, str]
    numerics: dict[str, Any] = {}
    """How a GPU computed: TF32, the type of sums, determinism. Empty on a processor."""
    findings: dict[str, Any] = {}
    """What the method reports of itself: losses, chosen features."""
    costs: dict[str, Cost] = {}
    """By stage: rollouts, sae, adapter, and total. Rollouts that were there already cost nothing."""
    usd: float | None = None
    """The price of `seconds` at the rate that was given."""
    source_usd: float | None = None
    """What training the source cost, where the registry knows it: a transfer is no cheaper than its source."""
    source_note: str = ""
    """Who says so, or what is known instead."""


class Manifest(Strict, frozen=True, kw_only=True):
    schema_: Literal[1] = msgspec.field(default=SCHEMA, name="schema")
    name: str
    version: str
    content_hash: str
    files: tuple[FileEntry, ...]
    method: str
    hookpoint: str
    base: Base
    probe: Probe | None
    """None: imported without its base at hand."""
    source: str
    source_revision: str
    sae: SaeRecord | None
    data: dict[str, DataRecord]
    """By role: trigger, elicit."""
    recipe: Recipe | None
    """None for an adapter that was made elsewhere."""
    recipe_digest: str
    seed: int
    parents: tuple[str, ...]
    """Content hashes of what it was made from, the source's adapter first."""
    run: Run
    siblings: dict[str, Sibling] = {}
    """By the names that the recipe gives them. Of an adapter made before they were recorded, the recipe alone names its
    siblings.
    """
    license: str | None = None
    """As the Hub names it; None where nothing says so."""

    @property
    def reference(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def probe_texts(self) -> tuple[str, ...]:
        return self.probe.texts if self.probe else PROBE_TEXTS

    @property
    def dtype(self) -> str:
        """What the adapter was made in, and its base is held in."""
        return self.recipe.dtype if self.recipe else "float32"

    def to_json(self) -> bytes:
        """Readable and canonical: sorted keys, two blanks of indent."""
        return msgspec.json.format(msgspec.json.encode(self, order="sorted"), indent=2) + b"\n"


def read_manifest(folder: Path) -> Manifest:
    """The checked manifest of an adapter folder; raises `Integrity` where it is broken or from a newer resa-hub."""
    return parse_manifest(read_json(folder / MANIFEST), MANIFEST)


def parse_manifest(content: Any, where: str) -> Manifest:
    """The manifest in parsed JSON; raises `Integrity`, which names `where`."""
    if isinstance(content, dict) and isinstance(content.get("schema"), int) and content["schema"] > SCHEMA:
        raise Integrity(
            f"{where} has schema {content['schema']}; this resa-hub reads up to {SCHEMA}", "install a newer resa-hub"
        )
    try:
        manifest = msgspec.convert(content, Manifest)
    except msgspec.ValidationError as error:
        raise Integrity(f"{where} is not a manifest: {error}", "pull it again, or ask its author") from None
    if not NAME.fullmatch(manifest.name) or not VERSION.fullmatch(manifest.version):
        raise Integrity(
            f"{where} names no valid adapter: {manifest.name[:40]!r} {manifest.version[:20]!r}",
            "pull it again, or ask its author",
        )
    if manifest.content_hash != content_hash(manifest.files) or identity_of(manifest.files) != manifest.files:
        raise Integrity(
            f"the content hash of {where} does not belong to its list of files", "it was edited: pull it again"
        )
    return manifest
