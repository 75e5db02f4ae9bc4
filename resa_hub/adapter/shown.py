"""Adapters and evaluations as Python shows them: a line, and small HTML in a notebook."""

from collections.abc import Sequence
from typing import Any

from ..core.notebook import Cells, Verdict, card, line, table
from ..core.quantities import count, size
from .manifest import Manifest


def adapter_line(manifest: Manifest, verdicts: Sequence[str]) -> str:
    """verdicts: as `transferred on tiny-r1`, the latest first; the others are counted."""
    more = f" (and {len(verdicts) - 1} more)" if len(verdicts) > 1 else ""
    judged = f"{verdicts[0]}{more}" if verdicts else "not judged"
    made = f"{manifest.method} on {_short(manifest.base.id)}"
    return line("Adapter", f"{manifest.reference} {made}, {_size(manifest)}, {judged}")


def adapter_cells(manifest: Manifest, verdicts: Sequence[str]) -> Cells:
    return {
        "adapter": manifest.reference,
        "verdict": Verdict(verdicts[0] if verdicts else ""),
        "method": manifest.method,
        "base": manifest.base.id,
        "size": _size(manifest),
        "created": manifest.run.created[:10],
    }


def adapter_html(manifest: Manifest, verdicts: Sequence[str], folder: str) -> str:
    cells = adapter_cells(manifest, verdicts)
    title = f"Adapter {cells.pop('adapter')}"
    later = {
        "also": "\n".join(verdicts[1:]),
        "hookpoint": manifest.hookpoint,
        "source": manifest.source,
        "identity": manifest.content_hash,
        "folder": folder,
    }
    return card(title, cells | later)


def evaluation_line(kind: str, document: Any) -> str:
    """document: `results.EvaluationDocument`."""
    gain = _points(document.gain, document.gain_ci)
    return line(
        kind, f"{document.adapter} on {document.target}, {document.benchmark}: {document.verdict}, {gain} points"
    )


def evaluation_cells(document: Any) -> Cells:
    """The verdict and what it stands on."""
    return {
        "adapter": document.adapter,
        "target": document.target,
        "benchmark": document.benchmark,
        "verdict": Verdict(document.verdict),
        "gain, points": _points(document.gain, document.gain_ci),
        "retained": "" if document.retained is None else f"{document.retained:.2f}",
    }


def evaluation_html(document: Any) -> str:
    asked = f"{document.benchmark} ({document.split}), {document.problems} problems x {document.samples} samples"
    told = {
        "verdict": Verdict(document.verdict),
        "in words": document.sentence,
        "gain, points": _points(document.gain, document.gain_ci),
        "asked": asked,
        "notes": "\n".join(document.notes),
    }
    return card(f"{document.adapter} on {document.target}", told, table([arm_cells(arm) for arm in document.arms]))


def arm_cells(arm: Any) -> Cells:
    """arm: `results.ArmResult`."""
    return {
        "arm": arm.name,
        "score, %": f"{arm.score:.1f}",
        "95%": _bounds(arm.score_ci),
        "greedy, %": "" if arm.greedy is None else f"{arm.greedy:.1f}",
        "mean tokens": "" if arm.tokens is None else f"{arm.tokens:.0f}",
        "truncated, %": "" if arm.truncated is None else f"{arm.truncated:.1f}",
    }


def arm_line(arm: Any) -> str:
    return line("Arm", f"{arm.name} {arm.score:.1f}% {_bounds(arm.score_ci)}")


def sweep_line(sweep: Any) -> str:
    """sweep: `results.Sweep`."""
    layers = count(len({point.layer for point in sweep.places}), "layer")
    asked = f"{sweep.method} from {sweep.source} on {sweep.target}, {sweep.benchmark}"
    return line("Sweep", f"{asked}, {layers}, {count(len(sweep.places), 'adapter')}")


def sweep_html(sweep: Any) -> str:
    told = {"in words": sweep.sentence, "benchmark": f"{sweep.benchmark} ({sweep.split})", "plot": sweep.plot}
    title = f"{sweep.method} from {sweep.source} on {sweep.target}"
    return card(title, told, table([point_cells(point) for point in sweep.places]))


def point_cells(point: Any) -> Cells:
    """point: `results.SweepPoint`."""
    return {
        "layer": str(point.layer),
        "seed": str(point.seed),
        "adapter": point.adapter,
        "gain, points": _points(point.gain, point.gain_ci),
        "verdict": Verdict(point.verdict),
    }


def _points(value: float, bounds: tuple[float, float]) -> str:
    return f"{value:+.1f} [{bounds[0]:+.1f}, {bounds[1]:+.1f}]"


def _bounds(bounds: tuple[float, float]) -> str:
    return f"[{bounds[0]:.1f}, {bounds[1]:.1f}]"


def _size(manifest: Manifest) -> str:
    """Of everything that the manifest names: the SAE too, where it has one."""
    return size(sum(entry.size for entry in manifest.files))


def _short(model: str) -> str:
    """The last part of a model's id, which is what people call it."""
    return model.rpartition("/")[2] or "an unknown base"
