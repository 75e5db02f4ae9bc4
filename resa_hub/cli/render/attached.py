"""An adapter that was put on a model: the proof of its effect, and the answers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..output import Output

if TYPE_CHECKING:
    from ...inference.attach import Attached, AttachPreview


def planned(out: Output, plan: list[tuple[str, str]], name: str, seen: "AttachPreview") -> None:
    """plan: (label, what names stand for)."""
    fit = seen.fitted.fit if seen.fitted else None
    document = dict(plan) | {"fit": fit.level if fit else None, "checked_when_fetched": seen.left}
    if out.data(document, name):
        return
    told = [("fit", f"{fit.level}: {fit.reason}")] if fit else []
    left = [("checked when fetched", "; ".join(seen.left))] if seen.left else []
    out.pairs([*plan, *told, *left])


def show(out: Output, done: "Attached", target: str, prompts: Sequence[str]) -> None:
    proof = done.proof
    if proof.floor is None:
        made = "extraction" if done.adapter.manifest.recipe else "import"
        against = f"recorded at {made}: {proof.recorded or 0:.4g}"
    else:
        against = f"above the floor of {proof.floor:.2g}"
    out.hint(f"  fit      {done.fit.level}: {done.fit.reason}")
    out.hint(f"  effect   KL {proof.kl:.4g} nats a token on the probe texts; {against}")
    if out.data(_document(done, target)):
        for text in () if out.as_json else done.completions:  # quiet: the answers are the essential lines
            out.verbatim(text)
        return
    if done.merged:
        out.hint(f"  merged   {done.merged}: the whole model, for programs that know no adapters")
    for question, text in zip(prompts, done.completions, strict=True):
        out.verbatim(f"{question}{text}")


def _document(done: "Attached", target: str) -> dict[str, Any]:
    manifest, proof = done.adapter.manifest, done.proof
    return {
        "adapter": manifest.reference,
        "content_hash": manifest.content_hash,
        "target": target,
        "fit": done.fit.level,
        "correlation": done.fit.correlation,
        "kl": proof.kl,
        "kl_recorded": proof.recorded,
        "kl_floor": proof.floor,
        "completions": list(done.completions),
        "merged": str(done.merged) if done.merged else None,
    }
