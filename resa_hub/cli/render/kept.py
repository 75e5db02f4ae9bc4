"""What is kept beside the adapters, as tables."""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ...core.quantities import ago, size
from ..output import Output
from ..tables import Column

if TYPE_CHECKING:
    from ...upkeep.kept import Item

KIND, NAME, THINGS = Column("kind", whole=True), Column("name", whole=True), Column("things", right=True)
ABOUT = Column("what it is", least=24)
USE = (Column("size", right=True), Column("last used", whole=True, hide=1), Column("safe to free", whole=True))


def show(out: Output, items: Sequence["Item"], *, one_by_one: bool) -> None:
    """A line a kind, or a line an item."""
    total = sum(item.bytes for item in items)
    document = {"items": [_document(item) for item in items], "bytes": total}
    if out.data(document, "\n".join(f"{item.kind} {item.name}" for item in items)):
        return
    if not items:
        return out.hint("nothing of that is kept here")
    if one_by_one:
        out.table([KIND, NAME, *USE], [[item.kind, item.name, *_use([item])] for item in items])
    else:
        groups = [list(group) for _, group in groupby(items, key=lambda item: item.kind)]
        out.table([KIND, THINGS, *USE, ABOUT], [_row(group) for group in groups])
    out.hint(f"{size(total)} in all; `resa-hub cache free` frees what is safe, and else what is named")


def _row(group: Sequence["Item"]) -> list[str]:
    from ...upkeep.kept import KINDS

    kind = KINDS[group[0].kind]
    return [group[0].kind, str(len(group)), *_use(group), f"{kind.about}; {kind.why}"]


def _use(items: Sequence["Item"]) -> list[str]:
    """Size, last use, and whether it is freed without being named."""
    from ...upkeep.kept import KINDS

    safe = "yes" if KINDS[items[0].kind].safe else "by name"
    return [size(sum(item.bytes for item in items)), ago(max(item.last_used for item in items)), safe]


def _document(item: "Item") -> dict[str, Any]:
    from datetime import UTC, datetime

    from ...upkeep.kept import KINDS

    kind = KINDS[item.kind]
    return {
        "kind": item.kind,
        "name": item.name,
        "bytes": item.bytes,
        "last_used": datetime.fromtimestamp(item.last_used, UTC).isoformat(timespec="seconds"),
        "safe": kind.safe,
        "about": kind.about,
        "why": kind.why,
        "paths": [str(path) for path in item.paths],
    }
