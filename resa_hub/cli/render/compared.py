"""Two adapters side by side."""

from typing import TYPE_CHECKING, Any

from ..output import Output
from ..tables import Column
from .words import VERDICTS

if TYPE_CHECKING:
    from ...adapter.diff import AdapterDiff


def show(out: Output, found: "AdapterDiff") -> None:
    import msgspec

    if out.data(msgspec.to_builtins(found), "identical" if found.identical else "different"):
        return
    out.text(f"{found.a} and {found.b}: {'the same bytes' if found.identical else 'different bytes'}")
    if found.settings:
        rows = [[key, _cell(one), _cell(other)] for key, (one, other) in found.settings.items()]
        out.table([Column("differs", whole=True), found.a, found.b], rows)
    cosine = "-" if found.cosine is None else f"{found.cosine:+.4f}"
    out.text(f"\nchange of the weights: norms {found.norm_a:.4g} and {found.norm_b:.4g}, cosine {cosine}")
    rows = [[m.module, _number(m.norm_a), _number(m.norm_b), _number(m.cosine)] for m in found.modules]
    numbers = [Column(name, right=True) for name in ("norm, first", "norm, second", "cosine")]
    out.table([Column("module", least=30), *numbers], rows)
    if found.features:
        features = found.features
        out.text(f"\nfeatures: {features['shared']} shared of {features['of_a']} and {features['of_b']}")
    for name, verdicts in zip((found.a, found.b), found.verdicts, strict=True):
        for e in verdicts:
            out.text(f"{name}: {e['verdict']} on {e['target']}, {e['benchmark']} ({e['split']})", VERDICTS)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
