"""Before something is deleted or takes long: what it is, and whether it may be done."""

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..core.quantities import size
from .output import Output
from .tables import Column


class Going(NamedTuple):
    """One thing that is about to be deleted."""

    what: str
    bytes: int
    """Disk that is free afterwards."""
    about: str
    """What it is, or what is lost with it."""


def may_delete(out: Output, going: Sequence[Going], *, yes: bool, dry_run: bool) -> bool:
    """Show what would go, with sizes, and ask unless that is nothing; False where this is a dry run.

    Raises `Usage` where nobody says yes.
    """
    total = sum(each.bytes for each in going)
    if dry_run:
        items = [each._asdict() for each in going]
        if not out.data({"dry_run": True, "would_delete": items, "bytes": total}, "\n".join(g.what for g in going)):
            _show(out, going)
            told = f"{len(going)} would be deleted, {size(total)}; nothing was done"
            out.text(told if going else "nothing would be deleted")
        return False
    if not going:
        return True
    if not out.silent:
        _show(out, going)
    confirm(f"delete {_counted(going)}{f', {size(total)}' if total else ''}?", yes)
    return True


def confirm(question: str, yes: bool) -> None:
    """Ask at a terminal; elsewhere only `--yes` will do. Raises `Usage`."""
    import typer

    from ..core.errors import Usage

    if yes:
        return
    if not sys.stdin.isatty():
        raise Usage("nobody is there to confirm", "add -y")
    if not typer.confirm(question, err=True):
        raise Usage("nothing was done", "")


MOST_LINES = 30


def _show(out: Output, going: Sequence[Going]) -> None:
    if not going:
        return
    rows = [[each.what, size(each.bytes), each.about] for each in going[:MOST_LINES]]
    rest = going[MOST_LINES:]
    if rest:
        rows.append([f"and {len(rest)} more", size(sum(each.bytes for each in rest)), ""])
    out.table([Column("goes", whole=True), Column("frees", right=True), "what it is"], rows)


def _counted(going: Sequence[Going]) -> str:
    return going[0].what if len(going) == 1 else f"these {len(going)}"


LONG_HOURS = 1.0
"""A run of more is announced."""


def before_long_run(out: Output, found: Any, yes: bool) -> None:
    """Say it where a plan puts a run at more than an hour on this machine, and ask on a terminal.

    found: an `Estimate`, or why there is none. Raises `Usage` where the answer is no.
    """
    from ..core import torchrun
    from ..core.estimates import Estimate
    from ..core.quantities import duration

    hours = found.here.hours if isinstance(found, Estimate) else None
    if hours is None or hours <= LONG_HOURS:
        return
    machine = found.here.machine.removeprefix("this machine, ")
    out.hint(f"this takes about {duration(hours * 3600)} on this machine ({machine}): an estimate, see --dry-run")
    if sys.stdin.isatty() and sys.stderr.isatty() and torchrun.world_size() == 1:
        confirm(f"run for about {duration(hours * 3600)}?", yes)
