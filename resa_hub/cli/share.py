from pathlib import Path
from typing import Annotated

from . import options
from .options import Argument, Option
from .output import Output

NoSae = Annotated[bool, Option("--no-sae", help="Without its SAE, which is often the larger part.")]


def push(
    name: options.Named,
    to: Annotated[
        str | None, Option("--to", help="folder:PATH, hf:OWNER/NAME or oci://HOST/NAME; else settings.remote.")
    ] = None,
    public: Annotated[bool, Option("--public", help="Make a new repository public; private by default.")] = False,
    no_sae: NoSae = False,
    sae_repo: Annotated[
        str | None, Option("--sae-repo", help="OWNER/NAME: its SAE goes into this repository of the Hub instead.")
    ] = None,
    sign: Annotated[Path | None, Option("--sign", help="Sign it first, with this private key (PEM).")] = None,
    workspace: options.Workspace = None,
    dry_run: options.DryRun = False,
    out: options.Out = Output(),
) -> None:
    """Send an adapter to a folder, the Hugging Face Hub or a registry."""
    from ..core.errors import Usage
    from ..hub.sharing import push as verb
    from ..hub.sharing import push_with_sae_repo

    if sae_repo and no_sae:
        raise Usage("--no-sae and --sae-repo say the opposite of each other", "leave one out")
    if sae_repo:
        all_done = push_with_sae_repo(
            name, to, sae_repo, workspace=workspace, public=public, dry_run=dry_run, sign=sign
        )
    else:
        all_done = (verb(name, to, workspace=workspace, public=public, dry_run=dry_run, sae=not no_sae, sign=sign),)
    told = [
        {
            "uri": done.uri,
            "changed": done.changed,
            "sent": [{"path": entry.path, "size": entry.size} for entry in done.sent],
            "removed": list(done.removed),
            "dry_run": dry_run,
        }
        for done in all_done
    ]
    if out.data(told[0] | ({"sae": told[1]} if sae_repo else {}), "\n".join(done.uri for done in all_done)):
        return
    for done in all_done:
        out.table(
            ["file", "bytes"],
            [*([entry.path, f"{entry.size:,}"] for entry in done.sent), *([path, "removed"] for path in done.removed)],
        )
        out.text(f"{'would push to' if dry_run else 'pushed to' if done.changed else 'already at'} {done.uri}")


def pull(
    ref: Annotated[str, Argument(help="folder:PATH#NAME@VERSION, hf:OWNER/NAME@REVISION or oci://HOST/NAME:TAG.")],
    no_sae: NoSae = False,
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """Fetch an adapter, check every byte, and put it into the store."""
    from ..hub.sharing import pull as verb

    done = verb(ref, workspace=workspace, sae=not no_sae)
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


def search(
    text: Annotated[str, Argument(help="Part of the name.")] = "",
    where: Annotated[
        str, Option("--in", help="folder:PATH, oci://HOST/NAME or hf:OWNER/NAME; the whole Hub by default.")
    ] = "hf",
    base: Annotated[str | None, Option("--base", help="Made for this model: a registry name or an id.")] = None,
    tag: Annotated[str | None, Option("--tag", help="Carries this tag, as feature-diff.")] = None,
    verdict: Annotated[str | None, Option("--verdict", help="Its author states this verdict, as transferred.")] = None,
    workspace: options.Workspace = None,
    out: options.Out = Output(),
) -> None:
    """Find adapters by base model, tag and verdict."""
    from ..hub.sharing import search as verb

    found = verb(where, base=base, tag=tag, verdict=verdict, text=text, workspace=workspace)
    if out.data({"adapters": [each._asdict() for each in found]}, "\n".join(each.ref for each in found)):
        return
    if not found:
        out.hint("nothing was found")
        return
    out.table(
        ["adapter", "base", "method", "stated verdicts"],
        [[each.ref, each.base, each.method, "; ".join(each.verdicts) or "-"] for each in found],
    )
    out.hint("verdicts are what their authors state: `resa-hub pull` checks bytes, `resa-hub eval` claims")
