from pathlib import Path
from typing import Annotated, Any

from . import options
from .options import Argument, Option
from .output import Output


def list_(
    target: Annotated[str | None, Option("--target", help="Also say how each fits this model.")] = None,
    base: Annotated[
        str | None, Option("--base", help="Only those made on this base: a name of the registry or an id.")
    ] = None,
    method: Annotated[str | None, Option("--method", help="Only those made by this method.")] = None,
    verdict: Annotated[str | None, Option("--verdict", help="Only those with this verdict on any target.")] = None,
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """The adapters of the store."""
    from ..adapter.workspace import Workspace

    opened = Workspace.find(workspace)
    good, bad = opened.store.readable()
    if base:
        wanted = opened.registry.model(base).base.id if base in opened.registry.entries["models"] else base
        good = [adapter for adapter in good if adapter.manifest.base.id == wanted]
    if method:
        good = [adapter for adapter in good if adapter.manifest.method == method]
    if verdict:
        from ..adapter.results import load_evaluations

        good = [adapter for adapter in good if any(said["verdict"] == verdict for said in load_evaluations(adapter))]
    fits = _fits(opened, target) if target else {}
    rows = [_row(adapter, fits) for adapter in good]
    document = {"adapters": rows, "unreadable": [{"adapter": name, "reason": error.message} for name, error in bad]}
    if not out.data(document, "\n".join(row["adapter"] for row in rows)):
        if rows:
            out.table(
                [key for key in rows[0] if key != "content_hash"],
                [[str(v) for key, v in row.items() if key != "content_hash"] for row in rows],
            )
        else:
            filtered = base or method or verdict
            next_step = (
                "leave a filter out" if filtered else "make one with `resa-hub extract`, fetch one with `resa-hub pull`"
            )
            out.hint(f"no {'such ' if filtered else ''}adapters in {opened.store.root}: {next_step}")
    for name, error in bad:
        out.hint(f"unreadable: {name}: {error.message}")


def _row(adapter: Any, fits: dict[str, str]) -> dict[str, Any]:
    m = adapter.manifest
    row = {
        "adapter": m.reference,
        "method": m.method,
        "source": m.recipe.source if m.recipe else "",
        "base": m.base.id,
        "hookpoint": m.hookpoint,
    }
    size = sum(entry.size for entry in m.files)
    row |= {"MB": f"{size / 1e6:.1f}", "created": m.run.created[:10], "content_hash": m.content_hash}
    return row | ({"fit": fits.get(m.reference, "")} if fits else {})


def _fits(workspace: Any, target: str) -> dict[str, str]:
    from ..data.snapshots import locate
    from ..hub.resolve import candidates, choose

    choice = choose(None, target, workspace.registry)
    found = candidates(workspace.store, locate(choice.target.base))
    return {c.adapter.manifest.reference: c.fit.level for c in found}


def show(
    name: options.Named,
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """What an adapter is and from what it was made."""
    import msgspec

    from ..adapter.describe import figures, tree
    from ..adapter.layout import SAE
    from ..adapter.results import load_evaluations
    from ..adapter.workspace import Workspace
    from ..evaluation.published import compare
    from ..hub.resolve import find
    from .render import costs

    opened = Workspace.find(workspace)
    adapter = find(name, opened)
    m, evaluations = adapter.manifest, load_evaluations(adapter)
    claimed = compare(m.name, m.recipe, evaluations, opened.registry)
    document = msgspec.to_builtins(m) | {"folder": str(adapter.folder), "evals": evaluations}
    if out.data(document | ({"published": msgspec.to_builtins(claimed)} if claimed else {}), m.content_hash):
        return
    sizes = {
        what: sum(entry.size for entry in m.files if entry.path.startswith(SAE) == is_sae)
        for what, is_sae in (("LoRA", False), ("SAE", True))
    }
    pairs = [
        ("adapter", m.reference),
        ("identity", m.content_hash),
        ("versions", ", ".join(opened.store.versions(m.name))),
        ("folder", str(adapter.folder)),
        ("made by", f"{m.method} at {m.hookpoint}, seed {m.seed}, {m.run.created}"),
        *(("" if number else "lineage", branch) for number, branch in enumerate(tree(m))),
        ("sizes", ", ".join(f"{what} {size:,} bytes" for what, size in sizes.items() if size)),
        (
            "effect",
            f"KL {m.probe.kl:.4g} nats a token on its own base" if m.probe else "not known: its base was not at hand",
        ),
        ("took", f"{m.run.seconds:.0f} s, {m.run.tokens:,} tokens, {m.run.hardware}"),
    ]
    if m.sae:
        pairs.append(("SAE", f"{m.sae.origin}, {m.sae.latents:,} latents, k = {m.sae.k}, on held-out text:"))
        for at, told in figures(m):
            pairs += [(at, f"{figure.name}: {figure.value} ({figure.meaning})") for figure in told]
    pairs += [("cost", line.removeprefix("price").strip()) for line in costs.price(m.run)]
    pairs += [("published", f"{line.benchmark} {line.sentence}") for line in claimed]
    pairs += [
        ("verdict", f"{e['verdict']} on {e['target']}, {e['benchmark']} ({e['split']}): {e['sentence']}")
        for e in evaluations
    ]
    out.pairs(pairs if evaluations else [*pairs, ("verdict", f"none yet: resa-hub eval {m.name} --target TARGET")])


def verify(
    names: Annotated[list[str] | None, Argument(help="Adapters by any of their names; all without it.")] = None,
    deep: Annotated[
        bool, Option("--deep", help="Also load each on its own base and hold its effect against the recorded one.")
    ] = False,
    keys: Annotated[
        list[Path] | None, Option("--key", help="It must be signed by this public key (PEM), or by one of several.")
    ] = None,
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> int:
    """Check every byte of adapters against their manifests."""
    from ..adapter.workspace import Workspace
    from ..core.errors import HubError
    from ..hub.resolve import find
    from ..inference.verify import check

    opened = Workspace.find(workspace)
    wanted = names or [f"{name}@{version}" for name in opened.store.names() for version in opened.store.versions(name)]
    results, code = [], 0
    for name in wanted:
        try:
            adapter = find(name, opened)
            found = check(adapter, opened, deep=deep, keys=keys or [])
            results.append(
                {
                    "adapter": adapter.manifest.reference,
                    "ok": True,
                    "detail": "; ".join([adapter.manifest.content_hash, *found]),
                }
            )
        except HubError as error:
            results.append({"adapter": name, "ok": False, "detail": error.message})
            code = code or error.exit_code
    if not out.data({"results": results}, "" if code else f"{len(results)} ok"):
        out.table(
            ["adapter", "state", "detail"],
            [[r["adapter"], "ok" if r["ok"] else "BROKEN", r["detail"]] for r in results],
        )
    return code
