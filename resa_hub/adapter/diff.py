"""Two adapters side by side: their settings and data, the changes of their weights, and their evaluations."""

from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ..core.notebook import line
from ..core.tensors import read_tensor
from .fit import LoraFile, read_lora
from .layout import SAE, WEIGHTS, FileEntry
from .manifest import Manifest
from .recorded import load_evaluations
from .store import Adapter


class ModuleDifference(msgspec.Struct, frozen=True):
    """The change dW = scaling B A of one module in both adapters; None where one has no such module."""

    module: str
    norm_a: float | None
    """Frobenius norm."""
    norm_b: float | None
    cosine: float | None
    """Between the two changes as vectors."""


class WeightsDiff(NamedTuple):
    modules: list[ModuleDifference]
    inner: float
    """Inner product of the two changes over all modules."""
    norm_a: float
    norm_b: float


class AdapterDiff(msgspec.Struct, frozen=True):
    a: str
    b: str
    identical: bool
    """Equal content hashes: the same bytes."""
    settings: dict[str, tuple[Any, Any]] = msgspec.field(name="told")
    """Settings, references and data that differ: key -> (of a, of b)."""
    features: dict[str, int] | None
    """Chosen SAE features: of_a, of_b, shared; only where both were made at the same hookpoint with the same SAE."""
    cosine: float | None
    """Of the whole change of weights."""
    norm_a: float
    norm_b: float
    modules: list[ModuleDifference]
    verdicts: tuple[list[dict[str, Any]], list[dict[str, Any]]]

    def __repr__(self) -> str:
        cosine = "" if self.cosine is None else f", cosine {self.cosine:+.4f}"
        same = "the same bytes" if self.identical else f"{len(self.settings)} settings differ{cosine}"
        return line("AdapterDiff", f"{self.a} and {self.b}: {same}")


def compare_adapters(a: Adapter, b: Adapter) -> AdapterDiff:
    """Raises `Integrity` for weights that cannot be read."""
    weights = compare_weights(a.folder, b.folder)
    norms = weights.norm_a * weights.norm_b
    return AdapterDiff(
        a=a.manifest.reference,
        b=b.manifest.reference,
        identical=a.manifest.content_hash == b.manifest.content_hash,
        settings=_differences(_settings(a.manifest), _settings(b.manifest)),
        features=_features(a, b),
        cosine=weights.inner / norms if norms else None,
        norm_a=weights.norm_a,
        norm_b=weights.norm_b,
        modules=weights.modules,
        verdicts=(_verdicts(a), _verdicts(b)),
    )


def compare_weights(a: Path, b: Path) -> WeightsDiff:
    """The changes of two adapter folders, module by module and over all.

    <B A, D C> = sum((B'D) * (A C')), so no full matrix is made.
    """
    lora_a, lora_b = read_lora(a), read_lora(b)
    modules, inner, square_a, square_b = [], 0.0, 0.0, 0.0
    for module in sorted(lora_a.modules.keys() | lora_b.modules.keys()):
        pair_a, pair_b = _matrices(a, lora_a, module), _matrices(b, lora_b, module)
        norm_a, norm_b = _norm(pair_a), _norm(pair_b)
        square_a += (norm_a or 0.0) ** 2
        square_b += (norm_b or 0.0) ** 2
        cosine = None
        if pair_a and pair_b and pair_a[0].shape[1] == pair_b[0].shape[1]:
            product = _inner(pair_a, pair_b)
            inner += product
            cosine = product / (norm_a * norm_b) if norm_a and norm_b else None
        modules.append(ModuleDifference(module, norm_a, norm_b, cosine))
    return WeightsDiff(modules, inner, square_a**0.5, square_b**0.5)


def _matrices(folder: Path, lora: LoraFile, module: str) -> tuple[Any, Any] | None:
    """(A [rank, in], scaling * B [out, rank]) in float64; None where the adapter has no such module."""
    import numpy

    parts = lora.modules.get(module)
    if parts is None:
        return None
    a, b = (numpy.asarray(read_tensor(folder / WEIGHTS, parts[part])[:], numpy.float64) for part in "AB")
    return a, lora.scaling * b


def _norm(pair: tuple[Any, Any] | None) -> float | None:
    """Frobenius norm of B A."""
    # Rounding may take the square of a change of almost nothing below zero.
    return max(0.0, _inner(pair, pair)) ** 0.5 if pair else None


def _inner(one: tuple[Any, Any], other: tuple[Any, Any]) -> float:
    """Inner product of the changes B A of two pairs (A, B)."""
    return float(((one[1].T @ other[1]) * (one[0] @ other[0].T)).sum())


def _settings(m: Manifest) -> dict[str, Any]:
    """What an adapter was made from and with: dotted key -> value."""
    recipe = msgspec.to_builtins(m.recipe) if m.recipe else {}
    return _flat(
        {
            "method": m.method,
            "source_revision": m.source_revision,
            "base": m.base.id,
            "base_revision": m.base.revision,
            "base_weights": m.base.weights,
            "siblings": {name: sibling.revision for name, sibling in m.siblings.items()},
            "recipe": recipe,
            "data": {role: {"id": d.id, "fingerprint": d.fingerprint, "rows": d.rows} for role, d in m.data.items()},
            "libraries": m.run.libraries,
        }
    )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix.rstrip("."): value}
    return {key: part for name, inner in value.items() for key, part in _flat(inner, f"{prefix}{name}.").items()}


def _differences(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {key: (a.get(key), b.get(key)) for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)}


def _features(a: Adapter, b: Adapter) -> dict[str, int] | None:
    """Numbers of latents mean the same only in the same SAE."""
    features_a, features_b = a.manifest.run.findings.get("features"), b.manifest.run.findings.get("features")
    if not isinstance(features_a, list) or not isinstance(features_b, list) or _sae_files(a) != _sae_files(b):
        return None
    shared = len(set(features_a) & set(features_b))
    return {"of_a": len(features_a), "of_b": len(features_b), "shared": shared}


def _sae_files(adapter: Adapter) -> list[FileEntry]:
    return [entry for entry in adapter.manifest.files if entry.path.startswith(SAE)]


def _verdicts(adapter: Adapter) -> list[dict[str, Any]]:
    keys = ("verdict", "target", "benchmark", "split", "gain", "gain_ci", "retained")
    return [{key: evaluation.get(key) for key in keys} for evaluation in load_evaluations(adapter)]
