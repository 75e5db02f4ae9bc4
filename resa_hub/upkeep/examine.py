"""Everything that `doctor` looks at, section by section."""

from collections.abc import Callable

from ..adapter.workspace import Workspace
from .access import check_access
from .check import PROBLEM, Check
from .machine import check_machine
from .packages import check_extras, check_versions
from .repositories import hub_cache
from .workspace_checks import check_environment, check_kept, check_workspace

Sections = dict[str, list[Check]]


def examine(workspace: Workspace, *, offline: bool = False) -> Sections:
    """Heading -> checks. Nothing is changed; of the network only the endpoint is asked, unless `offline`."""
    looks: dict[str, Callable[[], list[Check]]] = {
        "Versions": check_versions,
        "This machine": lambda: check_machine(workspace.folder, hub_cache()),
        "Extras": check_extras,
        "The Hub": lambda: check_access(offline),
        "Workspace": lambda: check_workspace(workspace),
        "Kept on disk": lambda: check_kept(workspace),
        "Environment": check_environment,
    }
    return {heading: _looked(look) for heading, look in looks.items()}


def _looked(look: Callable[[], list[Check]]) -> list[Check]:
    """A package that is missing or damaged hides one section, not all."""
    try:
        return look()
    except ImportError as error:
        step = "install resa-hub once more: a package that it needs is missing or damaged"
        return [Check(error.name or "import", f"cannot be imported: {error}", PROBLEM, step)]


def is_usable(sections: Sections) -> bool:
    return all(check.state != PROBLEM for checks in sections.values() for check in checks)
