from typing import Annotated

from . import options
from .command import Argument, Option
from .output import Output


def push(
    name: Annotated[str, Argument(help="NAME or NAME@VERSION.")],
    to: Annotated[str | None, Option("--to", help="folder:PATH or hf:OWNER/NAME; else settings.remote of the registry.")] = None,
    public: Annotated[bool, Option("--public", help="Make a new repository public; private by default.")] = False,
    workspace: options.Workspace = None,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Send an adapter to a folder or to the Hugging Face Hub."""
    from ..share import push as verb

    out = Output(as_json=as_json, quiet=quiet)
    done = verb(name, to, workspace=workspace, public=public, dry_run=dry_run)
    sent = [{"path": entry.path, "size": entry.size} for entry in done.sent]
    if not out.data({"uri": done.uri, "changed": done.changed, "sent": sent, "dry_run": dry_run}, done.uri):
        out.table(["file", "bytes"], [[entry.path, f"{entry.size:,}"] for entry in done.sent])
        out.text(f"{'would push to' if dry_run else 'pushed to' if done.changed else 'already at'} {done.uri}")


def pull(
    ref: Annotated[str, Argument(help="folder:PATH#NAME@VERSION or hf:OWNER/NAME@REVISION.")],
    workspace: options.Workspace = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Fetch an adapter, check every byte, and put it into the store."""
    from ..share import pull as verb

    out = Output(as_json=as_json, quiet=quiet)
    done = verb(ref, workspace=workspace)
    m = done.adapter.manifest
    document = {
        "adapter": m.reference,
        "content_hash": m.content_hash,
        "folder": str(done.adapter.folder),
        "location": done.location,
        "new": done.new,
    }
    if not out.data(document, m.reference):
        out.text(f"{m.reference}  {m.content_hash[:19]}  {done.adapter.folder}")
        out.hint(f"every byte checked against {done.location}" + ("" if done.new else "; the store had it already"))
