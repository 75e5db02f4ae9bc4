"""How well an adapter's SAE describes held-out states, in words, for `show` and the card. `engine.sae.quality` says
exactly what is measured.
"""

from typing import NamedTuple

import msgspec

from ..config.refs import HOOKPOINT
from .manifest import Manifest, SaeInit


class Figure(NamedTuple):
    name: str
    value: str
    meaning: str


def figures(manifest: Manifest) -> list[tuple[str, list[Figure]]]:
    """(hookpoint, its figures) of every SAE, the shallowest first; what an older manifest does not record is left
    out.
    """
    sae = manifest.sae
    if sae is None:
        return []
    try:
        several = msgspec.convert(manifest.run.findings.get("saes", {}), dict[str, dict[str, float]])
    except msgspec.ValidationError:  # somebody else's findings
        several = {}
    others = [
        (at, describe_quality(quality))
        for at, quality in several.items()
        if HOOKPOINT.fullmatch(at) and at != sae.hookpoint
    ]
    return [(sae.hookpoint, describe_quality(sae.quality) + _started(sae.start)), *others]


def describe_quality(quality: dict[str, float]) -> list[Figure]:
    """The figures that are there, the telling ones first."""
    seen = f"these {quality['tokens']:,.0f} tokens" if "tokens" in quality else "the held-out tokens"
    references = [
        f"{quality[key]:.4g} with {what}"
        for key, what in (("ce_zero", "zeros"), ("ce_mean", "the mean state"))
        if key in quality
    ]
    instead = f"; {', '.join(references)} instead" if references else ""
    wordings = [
        (
            "fvu_without_first",
            "FVU",
            "{:.3g}",
            "share of the variance left unexplained behind position 0: 0 is perfect, 1 no better than the mean state",
        ),
        (
            "fvu",
            "FVU with position 0",
            "{:.3g}",
            "the same over all positions: on real models the first holds most of the variance, so this tells little",
        ),
        ("l0", "L0", "{:.3g}", "active latents a token"),
        ("dead", "dead", "{:.1%}", f"share of the latents that never fire on {seen}"),
        (
            "ce_recovered",
            "CE recovered",
            "{:.1%}",
            "how much of what zeros in its place would cost it saves: 100% loses nothing",
        ),
        ("ce", "CE", "{:.4g} nats", "cross entropy of the next token, the model alone"),
        ("ce_spliced", "CE spliced", "{:.4g} nats", f"with the SAE's reconstruction in place of the state{instead}"),
        (
            "kl",
            "KL spliced",
            "{:.3g} nats",
            "a token, from the model to the model with the SAE spliced in: 0 is no change",
        ),
        (
            "ce_spliced_with_first",
            "CE spliced with position 0",
            "{:.4g} nats",
            "where position 0 is reconstructed too, on which it was not trained",
        ),
        ("kl_with_first", "KL spliced with position 0", "{:.3g} nats", "where position 0 is reconstructed too"),
    ]
    return [Figure(name, form.format(quality[key]), meaning) for key, name, form, meaning in wordings if key in quality]


def _started(start: SaeInit | None) -> list[Figure]:
    if start is None or start.fvu_here is None:
        return []
    own = "" if start.fvu_there is None else f"; at its own hookpoint {start.hookpoint} it is {start.fvu_there:.3g}"
    return [
        Figure(
            "FVU at the start",
            f"{start.fvu_here:.3g}",
            f"of the SAE that it was started from, here, before any training{own}",
        )
    ]


SHORT = 19
"""Characters of a revision: `sha256:` and twelve digits, or a commit."""


def shortened(revision: str) -> str:
    """Of a base and of the adapter on it, told as `base+adapter`, each."""
    return "+".join(part[:SHORT] for part in revision.split("+"))


def tree(m: Manifest) -> list[str]:
    """The adapter, below it target, source with the LoRA that is its gain, siblings, SAE with the one that it started
    from, and data.
    """
    source = [
        f"source  {m.source} at {m.source_revision[:SHORT]}",
        *([f"its LoRA  {digest[:SHORT]}"] for digest in m.parents),
    ]
    siblings = [[f"sibling  {sibling.id} at {shortened(sibling.revision)}"] for sibling in m.siblings.values()]
    branches: list[list] = [[f"target  {m.base.id} at {m.base.revision[:SHORT]}"], source, *siblings]
    if m.sae:
        start = (
            [
                [
                    f"started from  {m.sae.start.digest[:SHORT]}, made for "
                    f"{m.sae.start.hookpoint or 'an unnamed hookpoint'}"
                ]
            ]
            if m.sae.start
            else []
        )
        branches.append([f"SAE  {m.sae.origin}, at {m.sae.hookpoint}", *start])
    branches += [[f"data, {role}  {d.id} at {d.revision[:SHORT]}, {d.rows:,} rows"] for role, d in m.data.items()]
    return [m.reference, *_drawn(branches)]


def _drawn(branches: list[list]) -> list[str]:
    """branches: each a line and its own branches."""
    lines = []
    for number, (line, *below) in enumerate(branches, 1):
        last = number == len(branches)
        lines.append(f"{'└─' if last else '├─'} {line}")
        lines += [f"{'  ' if last else '│ '} {part}" for part in _drawn(below)]
    return lines
