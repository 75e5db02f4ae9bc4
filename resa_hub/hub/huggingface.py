"""`hf:owner/name[@revision]`: a repository of the Hugging Face Hub with one adapter.

Its versions are tags such as `v0.1.0`, which never move.
"""

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapter.layout import IDENTITY, MANIFEST, SAE, FileEntry
from ..adapter.store import Adapter
from ..adapter.verify import files_to_send
from ..config.methods import METHODS
from ..config.refs import VERSION
from ..config.remotes import RemoteRef
from ..core.errors import Conflict, HubError, NotFound
from ..core.files import read_json
from ..core.hub_errors import hub_answers, unreachable
from .huggingface_client import (
    RemoteFile,
    check_newest,
    commit_files,
    commit_of,
    fetch_file,
    head_or_new,
    hub_client,
    list_tree,
    other_bytes,
    retry_when_moved,
    set_tag,
    tags_of,
)
from .remote import DownloadResult, PushResult, SearchHit
from .transfer import matches

if TYPE_CHECKING:
    from huggingface_hub import HfApi, ModelInfo
Tree = dict[str, RemoteFile]
LIBRARY, MAX_HITS = "resa-hub", 1_000
VERDICT = re.compile(r"avg@\S+ on (?P<target>.+), percent; verdict: (?P<verdict>.+)")
"""As `adapter.card` writes it."""


class HubRemote:
    hashes_what_it_sends = False

    def __init__(self, ref: RemoteRef) -> None:
        self.ref = ref
        self.repo = ref.location

    def push(self, adapter: Adapter, *, public: bool = False, dry_run: bool = False, sae: bool = True) -> PushResult:
        """One commit on main with what differs there, then the version's tag; a new repository is private unless
        `public`.

        Somebody else's commit meanwhile is no harm: the head is read again and everything is decided anew. Raises
        `Conflict` before anything is sent when the version's tag, a later version or another adapter stands in the way,
        and when main has moved at each of three tries.
        """
        return retry_when_moved(self.repo, lambda: self._push(adapter, public, dry_run, sae))

    def _push(self, adapter: Adapter, public: bool, dry_run: bool, sae: bool) -> PushResult:
        tag, entries = f"v{adapter.manifest.version}", files_to_send(adapter.folder, adapter.manifest)
        wanted = tuple(entry for entry in entries if sae or not entry.path.startswith(SAE))
        with hub_client(str(self.ref)) as api:
            head = head_or_new(api, self.repo, public=public, dry_run=dry_run)
            if head is None:
                return PushResult(str(self.ref), wanted, True)
            main, tags = list_tree(api, self.repo, head), tags_of(api, self.repo)
            same = same_identity(main, adapter, entries)
            if tag in tags:
                tagged = self._check_tag(api, tag, adapter, entries)
                if not same:
                    # Main has moved on to a later version; what is tagged stays as it is.
                    return PushResult(self._uri(tagged), (), False)
            else:
                check_newest(self.repo, tags, adapter.manifest.version)
                if not same:
                    self._check_owner(api, adapter, head, main)
            sent = tuple(entry for entry in wanted if not _holds(main, adapter, entry.path))
            # Evaluations that others added stay with the version that they judge; nothing of an earlier version does,
            # nor its SAE where this one comes without.
            stale = () if same else tuple(path for path in main if path not in {entry.path for entry in wanted})
            changed = bool(sent or stale or tag not in tags)
            if dry_run:
                return PushResult(str(self.ref), sent, changed, stale)
            commit = self._commit(api, adapter, sent, stale, head) if sent or stale else head
            if tag not in tags:
                set_tag(api, self.repo, tag, commit, adapter.manifest)
                self._check_tag(api, tag, adapter, entries)
        return PushResult(self._uri(commit), sent, changed, stale)

    def pull(self, staging: Path, *, sae: bool = True) -> DownloadResult:
        """Fetch the files of one commit into an empty folder; the location is `hf:owner/name@commit`.

        Main unless a revision is named; `0.1.0` means the tag `v0.1.0`. Raises `NotFound`, `Integrity`, `Network`.
        """
        revision = self.ref.revision
        with hub_client(str(self.ref)) as api:
            is_version = revision and VERSION.fullmatch(revision)
            commit = commit_of(api, self.repo, f"v{revision}" if is_version else revision)
            files = list_tree(api, self.repo, commit)
            if MANIFEST not in files:
                raise NotFound(
                    f"{self.ref} holds no adapter: there is no {MANIFEST}",
                    "only adapters that resa-hub pushed can be pulled",
                )
            wanted = {path: file for path, file in files.items() if sae or not path.startswith(SAE)}
            for path, file in wanted.items():
                fetch_file(api, self.repo, commit, path, file, staging / path)
        large = tuple(
            FileEntry(path=path, size=file.size, sha256=file.digest.value)
            for path, file in wanted.items()
            if file.digest.kind == "sha256"
        )
        return DownloadResult(self._uri(commit), large)

    def search(self, *, base: str | None = None, text: str = "") -> list[SearchHit]:
        """Repositories that say they hold such an adapter: this one, or all of the Hub where none is named.

        Nothing is fetched.
        """
        filters = [LIBRARY, *([f"base_model:adapter:{base}"] if base else [])]
        with hub_client(str(self.ref) if self.repo else "a search of the Hub") as api:
            if self.repo:
                infos = [api.model_info(self.repo)]
            elif not hub_answers(api.endpoint):
                raise unreachable("a search of the Hub")
            else:
                infos = list(
                    api.list_models(filter=filters, search=text or None, full=True, cardData=True, limit=MAX_HITS)
                )
        return [_search_hit(info) for info in infos]

    def _check_tag(self, api: "HfApi", tag: str, adapter: Adapter, entries: tuple[FileEntry, ...]) -> str:
        """The commit of a tag; raises `Conflict` unless it holds the bytes that are this adapter's identity."""
        commit = commit_of(api, self.repo, tag)
        if not same_identity(list_tree(api, self.repo, commit), adapter, entries):
            raise other_bytes(self.repo, tag)
        return commit

    def _check_owner(self, api: "HfApi", adapter: Adapter, head: str, main: Tree) -> None:
        """Raise `Conflict` when main holds another adapter."""
        if not any(IDENTITY.fullmatch(path) for path in main):
            return
        name = self._name_of(api, head, main)
        if name != adapter.manifest.name:
            raise Conflict(
                f"{self.repo} holds {f'the adapter {name!r}' if name else 'an adapter of unknown origin'}",
                "push to a repository of its own",
            )

    def _name_of(self, api: "HfApi", head: str, main: Tree) -> str | None:
        """The name that the manifest on main gives; None without a manifest that can be read."""
        if MANIFEST not in main:
            return None
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / MANIFEST
            fetch_file(api, self.repo, head, MANIFEST, main[MANIFEST], copy)
            try:
                return str(read_json(copy)["name"])
            except (HubError, KeyError, TypeError):
                return None

    def _commit(
        self, api: "HfApi", adapter: Adapter, sent: tuple[FileEntry, ...], stale: tuple[str, ...], head: str
    ) -> str:
        return commit_files(
            api,
            self.repo,
            {entry.path: adapter.folder / entry.path for entry in sent},
            stale,
            adapter.manifest.reference,
            head,
        )

    def _uri(self, commit: str) -> str:
        return str(RemoteRef("hf", self.repo, None, commit))


def _search_hit(info: "ModelInfo") -> SearchHit:
    card: Any = info.card_data or {}
    base = card.get("base_model") if card else ""
    tags = tuple(str(tag) for tag in info.tags or [])
    results = getattr(card, "eval_results", None) or []
    stated = ((VERDICT.fullmatch(str(result.metric_name)), result.dataset_type) for result in results)
    return SearchHit(
        ref=f"hf:{info.id}",
        name=info.id,
        base=base if isinstance(base, str) else "",
        method=next((tag for tag in tags if tag in METHODS), ""),
        tags=tags,
        verdicts=tuple(f"{m['verdict']} on {m['target']}, {benchmark}" for m, benchmark in stated if m),
        updated=str(info.last_modified or "")[:10],
    )


def _holds(tree: Tree, adapter: Adapter, path: str) -> bool:
    """Whether a tree has this file of the adapter with the same bytes."""
    return path in tree and matches(adapter.folder / path, *tree[path])


def same_identity(tree: Tree, adapter: Adapter, entries: tuple[FileEntry, ...]) -> bool:
    """Do the weights, configuration and SAE of a tree have the same names and bytes as the local ones?

    Either side may lack the SAE, wholly.
    """
    theirs = {path for path in tree if IDENTITY.fullmatch(path)}
    ours = {entry.path for entry in entries if IDENTITY.fullmatch(entry.path)}
    different = theirs ^ ours
    lacking = not any(path.startswith(SAE) for path in theirs) or not any(path.startswith(SAE) for path in ours)
    if different and not (lacking and all(path.startswith(SAE) for path in different)):
        return False
    return all(_holds(tree, adapter, path) for path in theirs & ours)
