"""Two adapters side by side: what they were told, what they saw, what their weights do, and what was found out about
each.
"""

from pathlib import Path
from typing import Any

import msgspec

from ..core.tensors import read_tensor
from .fit import LoraFile, read_lora
from .layout import WEIGHTS
from .manifest import Manifest
from .results import load_evaluations
from .store import Adapter


class ModuleDifference(msgspec.Struct, frozen=True):
    """The change dW = scaling B A of one module in both adapters: Frobenius norms, and the cosine between the two; None
    where one has no such module.
    """

    module: str
    norm_a: float | None
    norm_b: float | None
    cosine: float | None


class AdapterDiff(msgspec.Struct, frozen=True):
    a: str
    b: str
    identical: bool
    """Equal content hashes: the same bytes."""
    told: dict[str, tuple[Any, Any]]
    """Settings, references and data that differ: key -> (of a, of b)."""
    features: dict[str, int] | None
    """Chosen SAE features: of_a, of_b, shared; only where both were made at the same hookpoint with the same SAE."""
    cosine: float | None
    """Of the whole change of weights."""
    norm_a: float
    norm_b: float
    modules: list[ModuleDifference]
    verdicts: tuple[list[dict[str, Any]], list[dict[str, Any]]]


def compare(a: Adapter, b: Adapter) -> AdapterDiff:
    """Raises `Integrity` for weights that cannot be read."""
    modules, total = weights(a.folder, b.folder)
    inner, norm_a, norm_b = total
    return AdapterDiff(
        a=a.manifest.reference,
        b=b.manifest.reference,
        identical=a.manifest.content_hash == b.manifest.content_hash,
        told=_differences(_told(a.manifest), _told(b.manifest)),
        features=_features(a, b),
        cosine=inner / (norm_a * norm_b) if norm_a and norm_b else None,
        norm_a=norm_a,
        norm_b=norm_b,
        modules=modules,
        verdicts=(_verdicts(a), _verdicts(b)),
    )


def weights(a: Path, b: Path) -> tuple[list[ModuleDifference], tuple[float, float, float]]:
    """Module by module, and over all: (inner product, norm of a, norm of b). <B A, D C> = sum((B'D) * (A C')), so no
    full matrix is made.
    """
    ours, theirs = read_lora(a), read_lora(b)
    found, inner, squares = [], 0.0, [0.0, 0.0]
    for module in sorted(ours.modules.keys() | theirs.modules.keys()):
        pairs = [_matrices(folder, lora, module) for folder, lora in ((a, ours), (b, theirs))]
        norms = [_inner(pair, pair) ** 0.5 if pair else None for pair in pairs]
        squares = [square + (norm or 0.0) ** 2 for square, norm in zip(squares, norms, strict=True)]
        product = (
            _inner(pairs[0], pairs[1])
            if pairs[0] and pairs[1] and pairs[0][0].shape[1] == pairs[1][0].shape[1]
            else None
        )
        inner += product or 0.0
        defined = product is not None and norms[0] and norms[1]
        found.append(ModuleDifference(module, norms[0], norms[1], product / (norms[0] * norms[1]) if defined else None))  # pyright: ignore
    return found, (inner, squares[0] ** 0.5, squares[1] ** 0.5)


def _matrices(folder: Path, lora: LoraFile, module: str) -> tuple[Any, Any] | None:
    """(A [rank, in], scaling * B [out, rank]) in float64."""
    import numpy

    parts = lora.modules.get(module)
    if parts is None:
        return None
    a, b = (numpy.asarray(read_tensor(folder / WEIGHTS, parts[part])[:], numpy.float64) for part in "AB")
    return a, lora.scaling * b


def _inner(one: Any, other: Any) -> float:
    return (
        max(0.0, value)
        if (value := float(((one[1].T @ other[1]) * (one[0] @ other[0].T)).sum())) < 0 and one is other
        else value
    )


def _told(m: Manifest) -> dict[str, Any]:
    """What decides an adapter, flat."""
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
    ours, theirs = (x.manifest.run.findings.get("features") for x in (a, b))
    saes = [[entry for entry in x.manifest.files if entry.path.startswith("sae/")] for x in (a, b)]
    if not isinstance(ours, list) or not isinstance(theirs, list) or saes[0] != saes[1]:
        return None
    return {"of_a": len(ours), "of_b": len(theirs), "shared": len(set(ours) & set(theirs))}


def _verdicts(adapter: Adapter) -> list[dict[str, Any]]:
    keys = ("verdict", "target", "benchmark", "split", "gain", "gain_ci", "retained")
    return [{key: e.get(key) for key in keys} for e in load_evaluations(adapter)]
