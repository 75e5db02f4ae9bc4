"""`cache`: what is kept on this machine beside the adapters, and freeing it."""

from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from . import options
from .ask import Going, may_delete
from .output import Output

if TYPE_CHECKING:
    from ..adapter.workspace import Workspace
    from ..upkeep.kept import Item


def _kinds(incomplete: str) -> list[tuple[str, str]]:
    """For a shell that completes a kind."""
    from ..upkeep.kept import KINDS

    return [(name, kind.about) for name, kind in KINDS.items() if name.startswith(incomplete)]


Kinds = Annotated[
    list[str] | None,
    Argument(help="Kinds, as `cache list` names them; hf is huggingface.", autocompletion=_kinds),
]
OlderThan = Annotated[
    str | None, Option("--older-than", help="Only what nobody has used for so long: 30d, 12h or 2w.", metavar="TIME")
]


def list_(
    kinds: Kinds = None,
    older_than: OlderThan = None,
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """What is kept beside the adapters: size, last use, and whether it is safe to free.

    With kinds, every single thing of these kinds.
    """
    from ..adapter.workspace import Workspace
    from ..upkeep.kept import find_kept, not_used_for
    from .render import kept

    items = find_kept(Workspace.find(workspace), kinds)
    kept.show(out, not_used_for(items, older_than) if older_than else items, one_by_one=bool(kinds))


def free(
    kinds: Kinds = None,
    older_than: OlderThan = None,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """Free what can be made or fetched again.

    Adapters are never touched. Unfinished runs, samples and logs that verdicts rest on, and the Hugging Face cache only
    go where their kind is named.
    """
    from ..adapter.workspace import Workspace
    from ..upkeep.kept import find_kept, not_used_for, safe_kinds

    opened = Workspace.find(workspace)
    items = find_kept(opened, kinds or safe_kinds())
    free_items(out, not_used_for(items, older_than) if older_than else items, opened, yes=yes, dry_run=dry_run)


def free_items(out: Output, items: list["Item"], workspace: "Workspace", *, yes: bool, dry_run: bool) -> None:
    """Show these items, ask, and delete them."""
    from ..core.quantities import size
    from ..upkeep.free import check_idle, free
    from ..upkeep.kept import KINDS

    check_idle(items, workspace)
    going = [Going(f"{item.kind} {item.name}", item.bytes, KINDS[item.kind].about) for item in items]
    if not may_delete(out, going, yes=yes, dry_run=dry_run):
        return
    freed = free(items, workspace)
    if not out.data({"freed": freed, "deleted": [each.what for each in going]}, str(freed)):
        out.text(f"{size(freed)} freed" if going else "there is nothing to free")
