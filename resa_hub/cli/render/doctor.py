"""What `doctor` found."""

from typing import TYPE_CHECKING

from ...core.quantities import count
from ..output import Output

if TYPE_CHECKING:
    from ...upkeep.check import Check
    from ...upkeep.examine import Sections

STATES = {"problem": "red", "warning": "yellow"}


def show(out: Output, sections: "Sections") -> None:
    """Each section with its lines; what to do stands below its line."""
    from msgspec import to_builtins

    from ...upkeep.check import OK
    from ...upkeep.examine import is_usable

    usable = is_usable(sections)
    wrong = [check for checks in sections.values() for check in checks if check.state != OK]
    document = {"usable": usable, "sections": to_builtins(sections)}
    essential = "\n".join(f"{check.state}: {check.name}: {check.value}" for check in wrong) or "ok"
    if out.data(document, essential):
        return
    for heading, checks in sections.items():
        if checks:
            out.text(heading, {heading: "bold"})
            out.pairs([pair for check in checks for pair in _pairs(check)], STATES)
            out.text("")
    out.text(_conclusion(wrong), STATES | {"ready": "green", "not usable": "red"})


def _pairs(check: "Check") -> list[tuple[str, str]]:
    mark = "" if check.state == "ok" else f"{check.state.upper()}: "
    pairs = [(f"  {check.name}", f"{mark}{check.value}")]
    return [*pairs, ("", f"-> {check.step}")] if check.step else pairs


def _conclusion(wrong: list["Check"]) -> str:
    from ...upkeep.check import PROBLEM

    problems = [check.name for check in wrong if check.state == PROBLEM]
    warnings = [check.name for check in wrong if check.state != PROBLEM]
    found = (("problem", problems), ("warning", warnings))
    told = [f"{count(len(names), what)} ({', '.join(names)})" for what, names in found if names]
    return f"{'Not usable as it is' if problems else 'Ready'}: {'; '.join(told) or 'nothing to mend'}"
