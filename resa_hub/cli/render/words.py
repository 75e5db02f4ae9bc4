"""Words that are coloured by what they mean, wherever they stand."""

from ...core.tones import TONES
from ..tables import Words

STYLES = {"good": "green", "bad": "red", "open": "yellow", "nothing": "dim"}
VERDICTS: Words = {word: STYLES[tone] for word, tone in TONES.items()}
STATES: Words = {"ok": "green", "yes": "green", "no": "red", "broken": "red", "not found": "yellow"}
"""Of bytes that were checked, and of what has room."""
