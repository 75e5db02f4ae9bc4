"""`folder:PATH[#name[@version]]`: a shared folder, content-addressed.

    PATH/blobs/<sha256>                 the bytes, each once
    PATH/refs/<name>/<version>.json     what a version consists of, written last and whole

Reading needs no lock: blobs never change and references are replaced by one rename.
"""

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from ..adapter.layout import EVALUATION, MANIFEST, SAE, FileEntry, content_hash
from ..adapter.manifest import parse_manifest
from ..adapter.store import Adapter, version_key
from ..adapter.verify import files_to_send
from ..config.refs import NAME, VERSION, AdapterRef
from ..config.remotes import RemoteRef
from ..core.errors import Conflict, HubError, Integrity, NotFound, RunFailed, Usage, did_you_mean
from ..core.files import check_can_hold, parse_json, read_bounded, read_json, sync_folder
from ..core.strict import Strict
from .remote import DownloadResult, PushResult, SearchHit
from .transfer import SHA256, check_listed, copy_verified, disk_errors, matches, sha256_of

VERDICT_KEYS = {"verdict", "target", "benchmark"}
"""What an evaluation must hold to be listed by a search."""


class FolderReference(Strict, frozen=True, kw_only=True):
    """The file of a version: all files of the adapter's folder, manifest, card and evaluations included."""

    schema_: Literal[1] = msgspec.field(default=1, name="schema")
    name: str
    version: str
    content_hash: str
    files: tuple[FileEntry, ...]


class FolderRemote:
    hashes_what_it_sends = True

    def __init__(self, ref: RemoteRef) -> None:
        self.ref = ref
        self.root = Path(ref.location).expanduser()

    def names(self) -> list[str]:
        folder = self.root / "refs"
        return sorted(path.name for path in folder.iterdir() if self.versions(path.name)) if folder.is_dir() else []

    def versions(self, name: str) -> list[str]:
        """Oldest first; empty when there is no such adapter."""
        folder = self.root / "refs" / name
        if not NAME.fullmatch(name) or not folder.is_dir():
            return []
        return sorted((path.stem for path in folder.glob("*.json") if VERSION.fullmatch(path.stem)), key=version_key)

    def push(self, adapter: Adapter, *, public: bool = False, dry_run: bool = False, sae: bool = True) -> PushResult:
        """Send what the folder lacks; who may read it is the folder's own matter, `public` changes nothing.

        Raises `Conflict` when the version exists with another content hash, `RunFailed` when the folder cannot be
        written.
        """
        check_can_hold(self.root)
        manifest = adapter.manifest
        entries = files_to_send(adapter.folder, manifest, sae=sae)
        # Without its SAE the version is the same: who pulls it gets what is there.
        listed = {entry.path: entry for entry in (*manifest.files, *entries)}
        files = tuple(listed[path] for path in sorted(listed))
        reference = FolderReference(
            name=manifest.name, version=manifest.version, content_hash=manifest.content_hash, files=files
        )
        with disk_errors(f"cannot use {self.root}"):
            changed = self._with_evaluations_there(reference) != self._present(reference)
            sent = tuple(entry for entry in entries if not self._holds(entry))
            if (changed or sent) and not dry_run:
                for entry in sent:
                    self._write_blob(adapter.folder / entry.path, entry)
                with self._lock():
                    self._write_reference(self._with_evaluations_there(reference))
        return PushResult(self._uri(manifest.name, manifest.version), sent, bool(changed or sent))

    def pull(self, staging: Path, *, sae: bool = True) -> DownloadResult:
        """Copy one version into an empty folder.

        Raises `NotFound`, `Usage` when several adapters are there and none is named, `Integrity` for anything that is
        not as it was pushed.
        """
        with disk_errors(f"cannot read {self.root}"):
            name, version = self._wanted()
            reference = self._read_reference(name, version)
        sae = sae and any(self._blob(entry).exists() for entry in reference.files if entry.path.startswith(SAE))
        wanted = tuple(entry for entry in reference.files if sae or not entry.path.startswith(SAE))
        for entry in wanted:
            copy_verified(
                self._blob(entry),
                staging / entry.path,
                entry.size,
                sha256_of(entry),
                f"{entry.path} of {name}@{version}",
            )
        return DownloadResult(self._uri(name, version), wanted)

    def search(self, *, base: str | None = None, text: str = "") -> list[SearchHit]:
        """The newest version of every adapter; one that cannot be read is left out."""
        if not self.root.is_dir():
            raise NotFound(f"the folder {self.root} does not exist", "check the path")
        hits = []
        for name in self.names():
            with contextlib.suppress(HubError):
                hits.append(self._search_hit(name, self.versions(name)[-1]))
        return hits

    def _search_hit(self, name: str, version: str) -> SearchHit:
        files = {entry.path: entry for entry in self._read_reference(name, version).files}
        manifest = parse_manifest(self._document(files[MANIFEST]), MANIFEST)
        evaluations = [self._document(entry) for path, entry in files.items() if EVALUATION.fullmatch(path)]
        return SearchHit(
            ref=self._uri(name, version),
            name=name,
            base=manifest.base.id,
            method=manifest.method,
            tags=("resa-hub", manifest.method),
            verdicts=tuple(
                f"{each['verdict']} on {each['target']}, {each['benchmark']}"
                for each in evaluations
                if set(each) >= VERDICT_KEYS
            ),
            updated=manifest.run.created,
        )

    def _document(self, entry: FileEntry) -> dict[str, Any]:
        """A JSON file of a version, checked against its hash."""
        data = read_bounded(self._blob(entry))
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise Integrity(f"{entry.path} in {self.root} was changed", "its author has to push again")
        content = parse_json(data, entry.path)
        return content if isinstance(content, dict) else {}

    def _wanted(self) -> tuple[str, str]:
        """(name, version) that the reference names; raises `NotFound`, and `Usage` where several adapters are there."""
        if not self.root.is_dir():
            raise NotFound(f"the folder {self.root} does not exist", "check the path")
        names = self.names()
        if not names:
            raise NotFound(f"{self.root} holds no adapters", f"send one with `resa-hub push NAME --to {self.ref}`")
        if not self.ref.adapter and len(names) > 1:
            raise Usage(
                f"{self.root} holds {len(names)} adapters: {', '.join(names)}",
                f"name one: folder:{self.ref.location}#{names[0]}",
            )
        name, version = (self.ref.adapter.name, self.ref.adapter.version) if self.ref.adapter else (names[0], None)
        versions = self.versions(name)
        if not versions:
            raise NotFound(f"{self.root} holds no adapter called {name!r}", did_you_mean(name, names))
        if version and version not in versions:
            raise NotFound(f"{self.root} holds no version {version} of {name}", f"it has {', '.join(versions)}")
        return name, version or versions[-1]

    def _read_reference(self, name: str, version: str) -> FolderReference:
        """The checked reference of a version; raises `Integrity`."""
        where = f"the reference {name}@{version} in {self.root}"
        push_again = "its author has to remove that file and push again"
        content = read_json(self._reference_path(name, version))
        try:
            reference = msgspec.convert(content, FolderReference)
        except msgspec.ValidationError as error:
            raise Integrity(f"{where} is damaged: {error}", push_again) from None
        for entry in reference.files:
            check_listed(entry.path, entry.size, where)
            if not re.fullmatch(SHA256, entry.sha256):
                raise Integrity(f"{where} gives {entry.path} no sha256", push_again)
        distinct = len({entry.path for entry in reference.files}) == len(reference.files)
        stated = (reference.name, reference.version, reference.content_hash)
        if not distinct or stated != (name, version, content_hash(reference.files)):
            raise Integrity(f"{where} contradicts itself", f"it was edited: {push_again}")
        return reference

    def _present(self, ours: FolderReference) -> FolderReference | None:
        """The reference that the folder has for the same name and version."""
        return self._read_reference(ours.name, ours.version) if ours.version in self.versions(ours.name) else None

    def _with_evaluations_there(self, ours: FolderReference) -> FolderReference:
        """Our reference with the evaluations that others added; raises `Conflict` for a version with other bytes."""
        present = self._present(ours)
        if present is None:
            return ours
        if present.content_hash != ours.content_hash:
            raise Conflict(
                f"{ours.name}@{ours.version} exists in {self.root} with other bytes "
                f"({present.content_hash[:19]}, not {ours.content_hash[:19]})",
                "a version never changes: give yours another version",
            )
        paths = {entry.path for entry in ours.files}
        added = [entry for entry in present.files if entry.path.startswith("evals/") and entry.path not in paths]
        return msgspec.structs.replace(ours, files=tuple(sorted([*ours.files, *added], key=lambda entry: entry.path)))

    def _holds(self, entry: FileEntry) -> bool:
        """Whether the blob is there; its bytes are hashed, so that a damaged one is sent again."""
        blob = self._blob(entry)
        return blob.exists() and matches(blob, entry.size, sha256_of(entry))

    def _write_blob(self, source: Path, entry: FileEntry) -> None:
        blob = self._blob(entry)
        partial = blob.with_name(f".{entry.sha256[:16]}.{secrets.token_hex(8)}")
        copy_verified(source, partial, entry.size, sha256_of(entry), entry.path)
        os.replace(partial, blob)
        sync_folder(blob.parent)

    def _write_reference(self, reference: FolderReference) -> None:
        target = self._reference_path(reference.name, reference.version)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
        with open(partial, "xb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(reference, order="sorted"), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
        sync_folder(target.parent)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Between reading a reference and replacing it nobody else writes one."""
        import filelock

        try:
            with filelock.FileLock(self.root / ".lock", timeout=60):
                yield
        except filelock.Timeout:
            raise RunFailed(
                f"another process holds the lock of {self.root} for a minute", "wait for it, or end it"
            ) from None

    def _blob(self, entry: FileEntry) -> Path:
        return self.root / "blobs" / entry.sha256

    def _reference_path(self, name: str, version: str) -> Path:
        return self.root / "refs" / name / f"{version}.json"

    def _uri(self, name: str, version: str) -> str:
        return str(RemoteRef("folder", self.ref.location, AdapterRef(name, version)))
