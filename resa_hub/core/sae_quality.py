"""Whether an SAE is too bad to extract anything with, by the figures of `engine.sae.quality`."""

WORST_FVU = 1.0
"""Of the states behind position 0: there the mean state alone explains as much."""
MOST_DEAD = 0.9
"""Share of latents. Beyond half is common and harmless: an SAE of general text has latents for much that texts of one
kind never show.
"""
FIRINGS = 10
"""Chances of a latent to fire on the held-out tokens, on average: with fewer, nothing is said of dead ones."""


def fault_of(quality: dict[str, float], latents: int, k: int) -> str:
    """What is wrong with an SAE of these figures, as "explains ..."; empty where it will do."""
    fvu, dead = quality.get("fvu_without_first"), quality.get("dead")
    if fvu is not None and not fvu < WORST_FVU:  # NaN, too
        return f"explains the states no better than their mean does (FVU {fvu:.3g}, 1 is the mean)"
    if dead is not None and dead > MOST_DEAD and quality.get("tokens", 0) * k >= FIRINGS * latents:
        return f"leaves {dead:.0%} of its latents dead"
    return ""
