"""The plan of an extraction and its estimate, as text and as JSON."""

from typing import TYPE_CHECKING, Any

from ..output import Output
from ..tables import Column
from . import estimated

if TYPE_CHECKING:
    from ...extraction.describe import ResolvedReference
    from ...extraction.forecast import ExtractionForecast

REFERENCES = (Column("reference", whole=True), Column("name", whole=True), Column("is", least=24), Column("revision"))


def show(out: Output, told: "ExtractionForecast", references: "list[ResolvedReference]", again: bool) -> None:
    import msgspec

    plan = told.plan
    document: dict[str, Any] = {
        "name": plan.name,
        "source": str(plan.source),
        "target": str(plan.target),
        "recipe": msgspec.to_builtins(plan.recipe),
        "references": msgspec.to_builtins(references),
        "present": told.present or None,
    } | estimated.document(told.estimate, told.left)
    if out.data(document, plan.name):
        return
    out.pairs(plan.lines())
    out.text("")
    out.table(REFERENCES, [[r.role, r.name, r.id, r.state] for r in references])
    out.text("")
    if told.present:
        then = "another version would be made" if again else "nothing would be done; --again makes another version"
        out.text(f"{told.present} was made by this very recipe: {then}")
        out.text("")
    estimated.show(out, told.estimate, told.left, stages=True)
    out.hint("dry run: nothing was fetched or made")
