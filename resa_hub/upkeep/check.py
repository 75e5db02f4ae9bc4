"""One thing that `doctor` looked at."""

import msgspec

OK, WARNING, PROBLEM = "ok", "warning", "problem"
"""A warning may hinder something; with a problem something does not work."""


class Check(msgspec.Struct, frozen=True):
    name: str
    value: str
    """What was found, in words."""
    state: str = OK
    step: str = ""
    """What to do about it, or how to get it."""
    bytes: int | None = None
    """For programs: free bytes of a disk or memory, else the size of what lies there."""
