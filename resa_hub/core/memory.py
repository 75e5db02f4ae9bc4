"""Main memory that this process may still take: the machine's, and what its containers leave of theirs."""

from collections.abc import Iterator
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
"""Which control groups this process is in."""


def free_memory(groups: Path = GROUPS, own: Path = OWN_GROUPS) -> int:
    """Bytes that can be had without swapping and without a container's limit being hit. groups, own: where Linux shows
    control groups.
    """
    import psutil

    return max(0, min([psutil.virtual_memory().available, *_left_by_groups(groups, own)]))


def _left_by_groups(groups: Path, own: Path) -> Iterator[int]:
    """Bytes that each control group above this process leaves it, of version 2 and 1. Within a container only its own
    is seen, as the root.
    """
    lines = own.read_text().splitlines() if own.is_file() else []
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            yield from _left(groups, path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
            yield from _left(groups / "memory", path, *names)


def _left(root: Path, path: str, limit: str, used: str, cached: str) -> Iterator[int]:
    """Limit less use, the page cache that can be dropped not counted, of a group and of those above it."""
    group = root / path.lstrip("/")
    for folder in (group, *group.parents):
        if most := _number(folder / limit):
            yield most - (_number(folder / used) or 0) + _statistic(folder / "memory.stat", cached)
        if folder == root:
            return


def _number(path: Path) -> int | None:
    """None for a file that is not there and for `max`."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _statistic(path: Path, name: str) -> int:
    try:
        values = dict(line.split() for line in path.read_text().splitlines())
        return int(values.get(name, 0))
    except (OSError, ValueError):
        return 0
