"""The keys that a person may have meant: by likeness, by their usual abbreviations and by their section."""

from collections.abc import Sequence

SYNONYMS = {
    "batch_size": ("batch_rows", "batch_tokens"),
    "bs": ("batch_rows", "batch_tokens"),
    "bsz": ("batch_rows", "batch_tokens"),
    "max_new_tokens": ("new_tokens",),
    "max_length": ("max_tokens", "chunk_tokens"),
    "seq_len": ("chunk_tokens", "max_tokens"),
    "layer": ("hookpoint",),
    "layers": ("hookpoints",),
    "width": ("latents",),
    "num_latents": ("latents",),
    "d_sae": ("latents",),
    "base": ("target",),
    "data": ("trigger", "elicit"),
    "dataset": ("trigger", "elicit"),
    "precision": ("dtype",),
    "target_modules": ("modules",),
    "r": ("rank",),
    "num_features": ("features",),
    "samples": ("count",),
}
"""Words of other tools -> keys of ours that mean the same."""
NEAR, SURE = 0.6, 0.95
SECTION = 0.3
"""What the likeness of the section counts beside that of the key."""


def nearest(path: str, known: Sequence[str]) -> list[str]:
    """The dotted keys that are nearest to `path`, the best alone unless several are equally near; none if none is."""
    section, _, key = path.rpartition(".")
    scored = []
    for candidate in known:
        its_section, _, its_key = candidate.rpartition(".")
        likeness = _likeness(key.lower(), its_key)
        if likeness >= NEAR:
            scored.append((likeness + SECTION * _likeness(section.lower(), its_section), candidate))
    best = max((score for score, _ in scored), default=0.0)
    return [candidate for score, candidate in scored if score == best][:3]


def did_you_mean_key(path: str, known: Sequence[str]) -> str:
    """A hint naming the nearest keys, else the first of all."""
    near = nearest(path, known)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"known: {', '.join(known[:12])}{', ...' if len(known) > 12 else ''}"


def _likeness(word: str, key: str) -> float:
    """1 for the same word, nearly as much for an abbreviation or another tool's word, else the share that is alike."""
    import difflib

    if word == key:
        return 1.0
    if not word or not key:
        return 0.0
    if key in SYNONYMS.get(word, ()) or _abbreviates(word, key):
        return SURE
    return difflib.SequenceMatcher(None, word, key).ratio() * SURE


def _abbreviates(word: str, key: str) -> bool:
    """`lr` and `learn_rate` for learning_rate, `temp` for temperature."""
    parts, pieces = key.split("_"), word.split("_")
    initials = "".join(part[0] for part in parts if part)
    whole = len(pieces) == len(parts) and all(part.startswith(piece) for part, piece in zip(parts, pieces, strict=True))
    return (len(word) > 1 and word == initials) or (len(word) > 2 and whole)
