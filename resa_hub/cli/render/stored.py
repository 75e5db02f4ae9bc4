"""Adapters of the store: in a list, one in full, and whether their bytes are right."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ...core.quantities import duration
from ..output import Output
from ..tables import Column
from . import costs
from .words import STATES, VERDICTS

if TYPE_CHECKING:
    from ...adapter.manifest import Manifest, Run
    from ...adapter.store import Adapter

Pairs = list[tuple[str, str]]
COLUMNS = {
    "adapter": Column("adapter", whole=True),
    "labels": Column("labels", least=8, hide=2),
    "fit": Column("fit", whole=True),
    "verdicts": Column("verdicts", least=24, words=VERDICTS),
    "method": Column("method", whole=True, hide=3),
    "base": Column("base", hide=5),
    "MB": Column("MB", right=True, hide=4),
    "created": Column("created", whole=True, hide=6),
    "hookpoint": Column("hookpoint", whole=True, hide=7),
    "source": Column("source", hide=8),
}
"""Of the list; what else a row holds is told by --json alone."""


class Listed(NamedTuple):
    adapter: "Adapter"
    labels: list[str]
    evaluations: list[dict[str, Any]]
    """Oldest first."""
    fit: str | None
    """To the target that was named; None where none was."""


def table(out: Output, listed: Sequence[Listed], broken: Sequence[Any], none: str) -> None:
    """broken: (what, error) of all that cannot be read. none: what to say where there is no adapter."""
    rows = [_row(each) for each in listed]
    unreadable = [{"adapter": name, "reason": error.message} for name, error in broken]
    done = out.data({"adapters": rows, "unreadable": unreadable}, "\n".join(row["adapter"] for row in rows))
    if not done and rows:
        names = [name for name in COLUMNS if name in rows[0]]
        out.table([COLUMNS[name] for name in names], [[_cell(row[name]) for name in names] for row in rows])
    elif not done:
        out.hint(none)
    for line in unreadable:
        out.hint(f"unreadable: {line['adapter']}: {line['reason']}")


def _cell(value: Any) -> str:
    return ("; ".join(value) or "-") if isinstance(value, list) else str(value)


def _row(listed: Listed) -> dict[str, Any]:
    from ...adapter.recorded import latest_verdicts

    manifest = listed.adapter.manifest
    fit = {} if listed.fit is None else {"fit": listed.fit}
    return {
        "adapter": manifest.reference,
        "labels": listed.labels,
        **fit,
        "verdicts": latest_verdicts(listed.evaluations),
        "method": manifest.method,
        "base": manifest.base.id,
        "MB": f"{sum(entry.size for entry in manifest.files) / 1e6:.1f}",
        "created": manifest.run.created[:10],
        "hookpoint": manifest.hookpoint,
        "source": manifest.recipe.source if manifest.recipe else "",
        "content_hash": manifest.content_hash,
    }


def full(
    out: Output, adapter: "Adapter", versions: Sequence[str], evaluations: Sequence[dict[str, Any]], claimed: list[Any]
) -> None:
    """claimed: published scores beside ours, `evaluation.published.PublishedComparison`."""
    import msgspec

    manifest = adapter.manifest
    document = msgspec.to_builtins(manifest) | {"folder": str(adapter.folder), "evals": list(evaluations)}
    published = {"published": msgspec.to_builtins(claimed)} if claimed else {}
    if out.data(document | published, manifest.content_hash):
        return
    pairs = _verdicts(manifest, evaluations) + _identity(adapter, versions) + _making(manifest) + _sae(manifest)
    pairs += [("cost", line.removeprefix("price").strip()) for line in costs.price(manifest.run)]
    out.pairs(pairs + [("published", f"{line.benchmark} {line.sentence}") for line in claimed], VERDICTS)


def _identity(adapter: "Adapter", versions: Sequence[str]) -> Pairs:
    manifest = adapter.manifest
    made = f"{manifest.method} at {manifest.hookpoint}, seed {manifest.seed}" if manifest.recipe else manifest.method
    return [
        ("adapter", manifest.reference),
        ("identity", manifest.content_hash),
        ("versions", ", ".join(versions)),
        ("folder", str(adapter.folder)),
        ("made by", f"{made}, {manifest.run.created}"),
    ]


def _making(manifest: "Manifest") -> Pairs:
    from ...adapter.describe import lineage_tree
    from ...adapter.layout import SAE

    sae = sum(entry.size for entry in manifest.files if entry.path.startswith(SAE))
    lora = sum(entry.size for entry in manifest.files) - sae
    sizes = ", ".join(f"{part} {size:,} bytes" for part, size in (("LoRA", lora), ("SAE", sae)) if size)
    effect = "not known: its base was not at hand"
    if manifest.probe:
        effect = f"KL {manifest.probe.kl:.4g} nats a token on its own base"
    lineage = [("" if number else "lineage", branch) for number, branch in enumerate(lineage_tree(manifest))]
    took = [("took", _took(manifest.run))] if manifest.recipe else []
    return [*lineage, ("sizes", sizes), ("effect", effect), *took]


def _took(run: "Run") -> str:
    """Of all stages; adapters of before these were recorded know the last one's tokens alone."""
    total = run.costs.get("total")
    return f"{duration(run.seconds)}, {total.tokens if total else run.tokens:,} tokens, {run.hardware}"


def _sae(manifest: "Manifest") -> Pairs:
    from ...adapter.describe import sae_faults, sae_figures

    if not manifest.sae:
        return []
    sae = manifest.sae
    pairs = [("SAE", f"{sae.origin}, {sae.latents:,} latents, k = {sae.k}, on held-out text:")]
    for hookpoint, quality in sae_figures(manifest):
        pairs += [(hookpoint, f"{figure.name}: {figure.value} ({figure.meaning})") for figure in quality]
    return pairs + [("mind", fault) for fault in sae_faults(manifest)]


def _verdicts(manifest: "Manifest", evaluations: Sequence[dict[str, Any]]) -> Pairs:
    """The latest first."""
    if not evaluations:
        return [("verdict", f"none yet: resa-hub eval {manifest.name} --target TARGET")]
    return [
        ("verdict", f"{e['verdict']} on {e['target']}, {e['benchmark']} ({e['split']}): {e['sentence']}")
        for e in reversed(evaluations)
    ]


def checks(out: Output, results: Sequence[dict[str, Any]]) -> None:
    """results: adapter, ok, state, and the hash and what else was checked, or the reason."""
    essential = f"{len(results)} ok" if all(result["ok"] for result in results) else ""
    if not out.data({"results": list(results)}, essential):
        rows = [[result["adapter"], result["state"], result["detail"]] for result in results]
        out.table([Column("adapter", whole=True), Column("state", whole=True, words=STATES), "detail"], rows)
