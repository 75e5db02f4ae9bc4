"""Adapters of the store: in a list, one in full, and whether their bytes are right."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..output import Output
from . import costs

if TYPE_CHECKING:
    from ...adapter.manifest import Manifest
    from ...adapter.store import Adapter

Pairs = list[tuple[str, str]]


def table(out: Output, adapters: Sequence["Adapter"], broken: Sequence[Any], fits: dict[str, str], none: str) -> None:
    """fits: reference -> fit to the target that was named. none: what to say where there is no adapter."""
    rows = [_row(adapter, fits) for adapter in adapters]
    unreadable = [{"adapter": name, "reason": error.message} for name, error in broken]
    done = out.data({"adapters": rows, "unreadable": unreadable}, "\n".join(row["adapter"] for row in rows))
    if not done and rows:
        columns = [column for column in rows[0] if column != "content_hash"]
        out.table(columns, [[str(row[column]) for column in columns] for row in rows])
    elif not done:
        out.hint(none)
    for line in unreadable:
        out.hint(f"unreadable: {line['adapter']}: {line['reason']}")


def _row(adapter: "Adapter", fits: dict[str, str]) -> dict[str, Any]:
    manifest = adapter.manifest
    size = sum(entry.size for entry in manifest.files)
    row = {
        "adapter": manifest.reference,
        "method": manifest.method,
        "source": manifest.recipe.source if manifest.recipe else "",
        "base": manifest.base.id,
        "hookpoint": manifest.hookpoint,
        "MB": f"{size / 1e6:.1f}",
        "created": manifest.run.created[:10],
        "content_hash": manifest.content_hash,
    }
    return row | ({"fit": fits.get(manifest.reference, "")} if fits else {})


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
    pairs = _identity(adapter, versions) + _making(manifest) + _sae(manifest)
    pairs += [("cost", line.removeprefix("price").strip()) for line in costs.price(manifest.run)]
    pairs += [("published", f"{line.benchmark} {line.sentence}") for line in claimed]
    out.pairs(pairs + _verdicts(manifest, evaluations))


def _identity(adapter: "Adapter", versions: Sequence[str]) -> Pairs:
    manifest = adapter.manifest
    made_by = f"{manifest.method} at {manifest.hookpoint}, seed {manifest.seed}, {manifest.run.created}"
    return [
        ("adapter", manifest.reference),
        ("identity", manifest.content_hash),
        ("versions", ", ".join(versions)),
        ("folder", str(adapter.folder)),
        ("made by", made_by),
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
    run = manifest.run
    lineage = [("" if number else "lineage", branch) for number, branch in enumerate(lineage_tree(manifest))]
    took = f"{run.seconds:.0f} s, {run.tokens:,} tokens, {run.hardware}"
    return [*lineage, ("sizes", sizes), ("effect", effect), ("took", took)]


def _sae(manifest: "Manifest") -> Pairs:
    from ...adapter.describe import sae_figures

    if not manifest.sae:
        return []
    sae = manifest.sae
    pairs = [("SAE", f"{sae.origin}, {sae.latents:,} latents, k = {sae.k}, on held-out text:")]
    for hookpoint, quality in sae_figures(manifest):
        pairs += [(hookpoint, f"{figure.name}: {figure.value} ({figure.meaning})") for figure in quality]
    return pairs


def _verdicts(manifest: "Manifest", evaluations: Sequence[dict[str, Any]]) -> Pairs:
    if not evaluations:
        return [("verdict", f"none yet: resa-hub eval {manifest.name} --target TARGET")]
    return [
        ("verdict", f"{e['verdict']} on {e['target']}, {e['benchmark']} ({e['split']}): {e['sentence']}")
        for e in evaluations
    ]


def checks(out: Output, results: Sequence[dict[str, Any]]) -> None:
    """results: adapter, ok, and the hash and what else was checked, or the reason."""
    essential = f"{len(results)} ok" if all(result["ok"] for result in results) else ""
    if not out.data({"results": list(results)}, essential):
        rows = [[result["adapter"], "ok" if result["ok"] else "BROKEN", result["detail"]] for result in results]
        out.table(["adapter", "state", "detail"], rows)
