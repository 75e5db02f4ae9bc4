"""An adapter in words, for `show` and the card: the quality of its SAE, and its lineage as a tree.

`engine.sae.quality` says exactly what is measured.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from ..config.refs import HOOKPOINT
from ..core.sae_quality import fault_of
from .manifest import Manifest, SaeInit


class Figure(NamedTuple):
    name: str
    value: str
    meaning: str


class _Wording(NamedTuple):
    key: str
    """Of the manifest's `quality`."""
    name: str
    form: str
    meaning: str


# fmt: off
WORDINGS = (
    _Wording("fvu_without_first", "FVU", "{:.3g}",
             "share of the variance left unexplained behind position 0: 0 is perfect, 1 no better than the mean state"),
    _Wording("fvu", "FVU with position 0", "{:.3g}",
             "the same over all positions: on real models the first holds most of the variance, so this tells little"),
    _Wording("l0", "L0", "{:.3g}", "active latents a token"),
    _Wording("dead", "dead", "{:.1%}", "share of the latents that never fire on {tokens}"),
    _Wording("ce_recovered", "CE recovered", "{:.1%}",
             "how much of what zeros in its place would cost it saves: 100% loses nothing"),
    _Wording("ce", "CE", "{:.4g} nats", "cross entropy of the next token, the model alone"),
    _Wording("ce_spliced", "CE spliced", "{:.4g} nats", "with the SAE's reconstruction in place of the state{instead}"),
    _Wording("kl", "KL spliced", "{:.3g} nats",
             "a token, from the model to the model with the SAE spliced in: 0 is no change"),
    _Wording("ce_spliced_with_first", "CE spliced with position 0", "{:.4g} nats",
             "where position 0 is reconstructed too, on which it was not trained"),
    _Wording("kl_with_first", "KL spliced with position 0", "{:.3g} nats", "where position 0 is reconstructed too"),
)
# fmt: on
"""In the order of their importance."""


def sae_figures(manifest: Manifest) -> list[tuple[str, list[Figure]]]:
    """(hookpoint, its figures) of every SAE, the shallowest first; figures that are not recorded are left out."""
    told = [(hookpoint, describe_quality(quality)) for hookpoint, quality in sae_qualities(manifest).items()]
    if manifest.sae:
        told[0][1].extend(_initial_fvu(manifest.sae.start))
    return told


def sae_qualities(manifest: Manifest) -> dict[str, dict[str, float]]:
    """By hookpoint, the figures of every SAE, the shallowest first."""
    sae = manifest.sae
    if sae is None:
        return {}
    try:
        qualities = msgspec.convert(manifest.run.findings.get("saes", {}), dict[str, dict[str, float]])
    except msgspec.ValidationError:  # findings of another program
        qualities = {}
    others = {at: quality for at, quality in qualities.items() if HOOKPOINT.fullmatch(at) and at != sae.hookpoint}
    return {sae.hookpoint: sae.quality, **others}


def sae_faults(manifest: Manifest) -> list[str]:
    """A sentence for each SAE that is too bad to learn anything through, where the recipe accepted it."""
    sae = manifest.sae
    if sae is None:
        return []
    faults = {at: fault_of(quality, sae.latents, sae.k) for at, quality in sae_qualities(manifest).items()}
    return [f"the SAE at {at} that the adapter was made with {fault}" for at, fault in faults.items() if fault]


def describe_quality(quality: dict[str, float]) -> list[Figure]:
    """The figures that are there, the most important first."""
    replacements = {"ce_zero": "zeros", "ce_mean": "the mean state"}
    references = [f"{quality[key]:.4g} with {what}" for key, what in replacements.items() if key in quality]
    words = {
        "tokens": f"these {quality['tokens']:,.0f} tokens" if "tokens" in quality else "the held-out tokens",
        "instead": f"; {', '.join(references)} instead" if references else "",
    }
    return [
        Figure(wording.name, wording.form.format(quality[wording.key]), wording.meaning.format(**words))
        for wording in WORDINGS
        if wording.key in quality
    ]


def _initial_fvu(start: SaeInit | None) -> list[Figure]:
    """What the SAE that it was started from explains, where that was measured."""
    if start is None or start.fvu_here is None:
        return []
    there = "" if start.fvu_there is None else f"; at its own hookpoint {start.hookpoint} it is {start.fvu_there:.3g}"
    meaning = f"of the SAE that it was started from, here, before any training{there}"
    return [Figure("FVU at the start", f"{start.fvu_here:.3g}", meaning)]


SHORT = 19
"""Characters of a revision: `sha256:` and twelve digits, or a commit."""


def short_revision(revision: str) -> str:
    """A revision cut to `SHORT`; of a base with an adapter on it (`base+adapter`), each part."""
    return "+".join(part[:SHORT] for part in revision.split("+"))


class _Branch(NamedTuple):
    line: str
    below: tuple["_Branch", ...] = ()


def lineage_tree(m: Manifest) -> list[str]:
    """The adapter and, below it, what it was made from, as lines of text.

    That is the target; the source with the LoRA that is its gain; siblings; the SAE with the one that it started from;
    and the data.
    """
    parents = tuple(_Branch(f"its LoRA  {digest[:SHORT]}") for digest in m.parents)
    branches = [
        _Branch(f"target  {m.base.id} at {m.base.revision[:SHORT]}"),
        *([_Branch(f"source  {m.source} at {m.source_revision[:SHORT]}", parents)] if m.source else []),
        *(_Branch(f"sibling  {each.id} at {short_revision(each.revision)}") for each in m.siblings.values()),
    ]
    if m.sae:
        branches.append(_Branch(f"SAE  {m.sae.origin}, at {m.sae.hookpoint}", _initial_sae(m.sae.start)))
    for role, data in m.data.items():
        branches.append(_Branch(f"data, {role}  {data.id} at {data.revision[:SHORT]}, {data.rows:,} rows"))
    return [m.reference, *_drawn(branches)]


def _initial_sae(start: SaeInit | None) -> tuple[_Branch, ...]:
    if start is None:
        return ()
    return (_Branch(f"started from  {start.digest[:SHORT]}, made for {start.hookpoint or 'an unnamed hookpoint'}"),)


def _drawn(branches: Sequence[_Branch]) -> list[str]:
    lines = []
    for number, branch in enumerate(branches, 1):
        last = number == len(branches)
        lines.append(f"{'└─' if last else '├─'} {branch.line}")
        lines += [f"{'  ' if last else '│ '} {line}" for line in _drawn(branch.below)]
    return lines
