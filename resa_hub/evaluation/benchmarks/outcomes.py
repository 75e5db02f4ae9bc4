"""What grading one answer gives."""

UNREADABLE, TIMED_OUT = "unreadable gold", "time-out"
Pair = tuple[str, str | None, bool]
"""(gold, answer, loose): loose marks an answer that was found outside of the asked format; without an answer the
question is whether the gold can be read.
"""
Outcome = bool | str
"""Equal or not, or why nobody knows: UNREADABLE, TIMED_OUT."""
