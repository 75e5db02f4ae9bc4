"""What the word of a verdict means to its reader: the terminal, the page and notebooks colour it by this."""

TONES = {
    "transferred": "good",
    "harmful": "bad",
    "underpowered": "open",
    "not distinguishable from controls": "open",
    "source gain not identifiable": "nothing",
    "identical to base": "nothing",
    "does not fit": "nothing",
}
"""The words of `evaluation.verdict`, and of a matrix where nothing could be judged."""


def tone(text: str) -> str:
    """Of a text that begins with a verdict; empty where it begins with none."""
    return next((tone for word, tone in TONES.items() if text.startswith(word)), "")
