"""What was sent to a remote, fetched from one, or found there."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..output import Output
from ..tables import Column
from .words import VERDICTS

if TYPE_CHECKING:
    from ...hub.remote import PushResult, SearchHit
    from ...hub.resolve import PullResult


def pushed(out: Output, results: Sequence["PushResult"], dry_run: bool) -> None:
    """results: of the adapter, and perhaps of its SAE in a repository of its own."""
    documents = [_document(result, dry_run) for result in results]
    sae = {"sae": documents[1]} if len(documents) > 1 else {}
    if out.data(documents[0] | sae, "\n".join(result.uri for result in results)):
        return
    for result in results:
        rows = [[entry.path, f"{entry.size:,}"] for entry in result.sent]
        rows += [[path, "removed"] for path in result.removed]
        if rows:
            out.table(["file", Column("bytes", right=True)], rows)
        done = "pushed to" if result.changed else "already at"
        out.text(f"{'would push to' if dry_run else done} {result.uri}")


def _document(result: "PushResult", dry_run: bool) -> dict[str, Any]:
    return {
        "uri": result.uri,
        "changed": result.changed,
        "sent": [{"path": entry.path, "size": entry.size} for entry in result.sent],
        "removed": list(result.removed),
        "dry_run": dry_run,
    }


def pulled(out: Output, result: "PullResult") -> None:
    manifest, folder = result.adapter.manifest, result.adapter.folder
    document = {
        "adapter": manifest.reference,
        "content_hash": manifest.content_hash,
        "folder": str(folder),
        "location": result.location,
        "new": result.new,
    }
    if out.data(document, manifest.reference):
        return
    out.text(f"{manifest.reference}  {manifest.content_hash[:19]}  {folder}")
    out.hint(f"every byte checked against {result.location}{'' if result.new else '; the store had it already'}")


def hits(out: Output, found: Sequence["SearchHit"]) -> None:
    if out.data({"adapters": [hit._asdict() for hit in found]}, "\n".join(hit.ref for hit in found)):
        return
    if not found:
        out.hint("nothing was found")
        return
    rows = [[hit.ref, hit.base, hit.method, "; ".join(hit.verdicts) or "-"] for hit in found]
    name, verdicts = Column("adapter", whole=True), Column("stated verdicts", least=24, words=VERDICTS)
    out.table([name, Column("base", hide=2), Column("method", whole=True, hide=1), verdicts], rows)
    out.hint("verdicts are what their authors state: `resa-hub pull` checks bytes, `resa-hub eval` claims")
