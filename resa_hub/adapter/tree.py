"""What an adapter was made from, as a tree of lines for `show`."""

from .manifest import Manifest

SHORT = 19
"""Characters of a revision: `sha256:` and twelve digits, or a commit."""


def shortened(revision: str) -> str:
    """Of a base and of the adapter on it, told as `base+adapter`, each."""
    return "+".join(part[:SHORT] for part in revision.split("+"))


def tree(m: Manifest) -> list[str]:
    """The adapter, below it target, source with the LoRA that is its gain, siblings, SAE with the one that it started from, and data."""
    source = [f"source  {m.source} at {m.source_revision[:SHORT]}", *([f"its LoRA  {digest[:SHORT]}"] for digest in m.parents)]
    siblings = [[f"sibling  {sibling.id} at {shortened(sibling.revision)}"] for sibling in m.siblings.values()]
    branches: list[list] = [[f"target  {m.base.id} at {m.base.revision[:SHORT]}"], source, *siblings]
    if m.sae:
        start = [[f"started from  {m.sae.start.digest[:SHORT]}, made for {m.sae.start.hookpoint or 'an unnamed hookpoint'}"]] if m.sae.start else []
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
