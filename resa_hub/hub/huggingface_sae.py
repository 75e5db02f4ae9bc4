"""The SAE of an adapter in a Hub repository of its own.

The repository holds a folder for each hookpoint, in SAELens format, and a card that names the adapter.
"""

import hashlib
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ..adapter.layout import CARD, SAE, FileEntry
from ..adapter.store import Adapter
from ..adapter.verify import verify_folder
from ..config.remotes import RemoteRef
from ..core.errors import Conflict
from ..core.files import read_bounded
from .huggingface_client import (
    RemoteFile,
    check_newest,
    commit_files,
    commit_of,
    fetch_file,
    head_or_new,
    hub_client,
    list_tree,
    newest_version,
    other_bytes,
    retry_when_moved,
    set_tag,
    tags_of,
)
from .remote import PushResult
from .transfer import matches

if TYPE_CHECKING:
    from huggingface_hub import HfApi
MARK = "<!-- resa-hub: the SAE of {name} -->"
HOOKPOINTS = re.compile(rb"<!-- resa-hub: at ([\w., ]+) -->", re.ASCII)
"""The folders that a card calls its own, as `sae_card` writes them."""


def push_sae(
    adapter: Adapter, ref: RemoteRef, adapter_at: RemoteRef, *, public: bool = False, dry_run: bool = False
) -> PushResult:
    """One commit on main with what differs there, then the tag of the adapter's version; a new repository is private
    unless `public`.

    The folders of hookpoints that the card on main names and this SAE has not are removed in that commit, so that a
    reader of main never takes a mixture of versions; the tags of those versions keep them, and no tag is ever moved.
    What no card of this adapter names is somebody's own and stays.
    adapter_at: where the adapter itself lies, for the card. Raises `Integrity` unless the files are as the manifest
    says; `Conflict` for a repository that holds another adapter's SAE, a card of somebody else's, a later version, or
    this version's tag with other bytes, and when main has moved at each of three tries.
    """
    entries = [entry for entry in verify_folder(adapter.folder).files if entry.path.startswith(SAE)]
    files = {entry.path.removeprefix(SAE): entry for entry in entries}
    card = sae_card(adapter, sorted({path.partition("/")[0] for path in files}), ref, adapter_at)
    return retry_when_moved(ref.location, lambda: _push(adapter, ref, files, card, public, dry_run))


def _push(
    adapter: Adapter, ref: RemoteRef, files: dict[str, FileEntry], card: bytes, public: bool, dry_run: bool
) -> PushResult:
    """files: path in the repository -> entry of the adapter."""
    repo, tag = ref.location, f"v{adapter.manifest.version}"
    card_entry = FileEntry(path=CARD, size=len(card), sha256=hashlib.sha256(card).hexdigest())
    with hub_client(str(ref)) as api:
        head = head_or_new(api, repo, public=public, dry_run=dry_run)
        if head is None:
            return PushResult(str(ref), (*_renamed(files), card_entry), True)
        main, top, tags = list_tree(api, repo, head, SAE), list_tree(api, repo, head), tags_of(api, repo)
        old_card = _card(api, repo, head, top.get(CARD))
        _check_owner(repo, adapter, old_card, main)
        changed = _changed(adapter, files, main)
        if tag in tags:
            tagged = _check_tag(api, repo, tag, adapter, files)
            if changed or newest_version(tags) != adapter.manifest.version:
                # Main has moved on to a later version; what is tagged stays as it is.
                return PushResult(_uri(repo, tagged), (), False)
        else:
            check_newest(repo, tags, adapter.manifest.version)
        stale = tuple(path for path in main if path not in files and path.partition("/")[0] in _named(old_card))
        sent = (*_renamed(changed), *([card_entry] if old_card != card else []))
        if dry_run:
            return PushResult(str(ref), sent, bool(sent) or tag not in tags, stale)
        commit = head
        if sent:
            contents: dict[str, Path | bytes] = {path: adapter.folder / file.path for path, file in changed.items()}
            contents |= {CARD: card} if old_card != card else {}
            commit = commit_files(api, repo, contents, stale, f"SAE of {adapter.manifest.reference}", head)
        if tag not in tags:
            set_tag(api, repo, tag, commit, adapter.manifest)
            _check_tag(api, repo, tag, adapter, files)
    return PushResult(_uri(repo, commit), sent, bool(sent) or tag not in tags, stale)


def _check_owner(repo: str, adapter: Adapter, card: bytes | None, main: dict[str, RemoteFile]) -> None:
    """Raise `Conflict` for SAE files without a card, and for a card that names no SAE of this adapter."""
    mark = MARK.format(name=adapter.manifest.name).encode()
    if (mark not in card) if card is not None else bool(main):
        raise Conflict(
            f"{repo} holds something else than the SAE of {adapter.manifest.name}",
            "push the SAE to a repository of its own",
        )


def _changed(adapter: Adapter, files: dict[str, FileEntry], tree: dict[str, RemoteFile]) -> dict[str, FileEntry]:
    """What a tree lacks or has with other bytes."""
    return {
        path: file
        for path, file in files.items()
        if path not in tree or not matches(adapter.folder / file.path, *tree[path])
    }


def _check_tag(api: "HfApi", repo: str, tag: str, adapter: Adapter, files: dict[str, FileEntry]) -> str:
    """The commit of a tag; raises `Conflict` unless it holds this SAE."""
    commit = commit_of(api, repo, tag)
    if _changed(adapter, files, list_tree(api, repo, commit, SAE)):
        raise other_bytes(repo, tag)
    return commit


def _named(card: bytes | None) -> set[str]:
    """The hookpoints whose folders a card names; none where it says nothing of them."""
    match = HOOKPOINTS.search(card or b"")
    return set(match[1].decode().split(", ")) if match else set()


def _renamed(files: dict[str, FileEntry]) -> list[FileEntry]:
    """The entries as the repository names them."""
    return [FileEntry(path=path, size=file.size, sha256=file.sha256) for path, file in files.items()]


def _uri(repo: str, commit: str) -> str:
    return str(RemoteRef("hf", repo, None, commit))


def _card(api: "HfApi", repo: str, head: str, file: RemoteFile | None) -> bytes | None:
    """The card on main; None where there is none."""
    if file is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / CARD
        fetch_file(api, repo, head, CARD, file, copy)
        return read_bounded(copy)


def sae_card(adapter: Adapter, hookpoints: list[str], ref: RemoteRef, adapter_at: RemoteRef) -> bytes:
    """The card, the same for the same version of the adapter."""
    m = adapter.manifest
    sizes = f"{m.sae.latents:,} latents, k = {m.sae.k}, " if m.sae else ""
    link = f"[{adapter_at.location}](https://huggingface.co/{adapter_at.location})"
    return f"""---
library_name: saelens
tags: [sparse-autoencoder, resa-hub]
---
{MARK.format(name=m.name)}
<!-- resa-hub: at {", ".join(hookpoints)} -->

# SAE of {m.reference}

A TopK sparse autoencoder ({sizes}{", ".join(hookpoints)}) on {m.base.id}, from which the reasoning adapter
{link} was made: `{adapter_at}@v{m.version}`, {m.content_hash}.

```python
from huggingface_hub import snapshot_download
from sae_lens import SAE

sae = SAE.load_from_disk(snapshot_download("{ref.location}", revision="v{m.version}") + "/{hookpoints[0]}")
```
""".encode()
