"""Durations, sizes, amounts and prices in words, alike in all output."""

import time

PREFIXES = (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))
TIMES = ((120, 1, "s"), (7_200, 60, "min"), (172_800, 3_600, "h"))
"""(below so many seconds, seconds of the unit, the unit)."""
AGES = ((86_400, "day"), (3_600, "hour"), (60, "minute"))
LEAST_SECONDS = 0.01


def count(number: int, what: str) -> str:
    """`1 arm`, `2 arms`, `12,000 arms`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """`0.07 s`, `1.2 s`, `35 s`, `3 min`, `2.4 h`, `3 days`."""
    if 0 < seconds < LEAST_SECONDS:
        return f"< {LEAST_SECONDS} s"
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    for limit, length, unit in TIMES:
        if seconds < limit:
            return f"{seconds / length:.{1 if unit == 'h' else 0}f} {unit}"
    return f"{seconds / 86_400:,.0f} days"


def rate(number: float, seconds: float, units: str) -> str:
    """units: plural. `1,200 tokens/s`, `2.5 steps/s`, `12 s/evaluation`; empty where there is nothing to tell."""
    if number <= 0 or seconds <= 0:
        return ""
    speed = number / seconds
    if speed < 1:
        return f"{duration(1 / speed)}/{units.removesuffix('s')}"
    return f"{speed:.1f} {units}/s" if speed < 9.95 else f"{speed:,.0f} {units}/s"


def amount(value: float, unit: str) -> str:
    """Three digits and a prefix: `7.58 PFLOP`, `1.2 kJ`."""
    for prefix, factor in PREFIXES:
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def size(count: float) -> str:
    """Bytes: `1.2 GB`, `340 MB`, `12 kB`; decimal units, as disks are sold."""
    for prefix, factor in PREFIXES:
        if count >= factor:
            number = count / factor
            return f"{number:.1f} {prefix}B" if number < 9.95 else f"{number:,.0f} {prefix}B"
    return "1 byte" if count == 1 else f"{count:.0f} bytes"


def dollars(value: float) -> str:
    """Enough digits to tell small prices apart: `$1,200`, `$0.19`, `$0.0003`."""
    if value >= 10:
        return f"${value:,.0f}"
    if value >= 0.01 or value == 0:
        return f"${value:.2f}"
    return f"${value:.1g}" if value >= 0.0001 else "< $0.0001"


def ago(moment: float) -> str:
    """A time, in seconds since the epoch, as `3 days ago`."""
    seconds = time.time() - moment
    for length, unit in AGES:
        if seconds >= length:
            return f"{count(int(seconds // length), unit)} ago"
    return "just now"
