"""The local store: `adapters/<name>/<version>/`.

An adapter is written into a staging folder, checked, and moved in by one rename under a lock.

<name>/<version>/      a plain PEFT folder; its files are hard links to .blobs/, see `blobs`
<name>/labels.json     label -> version, for people: unlike a version a label may move
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from ..config.refs import LABEL, NAME, VERSION, AdapterRef, ContentRef, check_label, check_name
from ..core.errors import Conflict, HubError, Integrity, NotFound, RunFailed, Usage, did_you_mean
from ..core.files import read_json, sync_files, sync_folder, walk
from . import shown
from .blobs import Blobs
from .layout import SAE, FileEntry
from .manifest import Manifest, read_manifest
from .recorded import verdicts_of
from .staging import abandoned, staging_folder
from .verify import verify_folder

LABELS = "labels.json"


class Adapter(NamedTuple):
    """A version in a store: what it is, and the plain PEFT folder in which it lies."""

    manifest: Manifest
    folder: Path

    def __repr__(self) -> str:
        return shown.adapter_line(self.manifest, verdicts_of(self))

    def _cells(self) -> dict[str, str]:
        return shown.adapter_cells(self.manifest, verdicts_of(self))

    def _repr_html_(self) -> str:
        return shown.adapter_html(self.manifest, verdicts_of(self), str(self.folder))


def version_key(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


class Store:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = Blobs(root)

    def versions(self, name: str) -> list[str]:
        """Oldest first; empty when there is no such adapter."""
        folder = self.root / name
        if not NAME.fullmatch(name) or not folder.is_dir():
            return []
        return sorted((p.name for p in folder.iterdir() if VERSION.fullmatch(p.name) and p.is_dir()), key=version_key)

    def names(self) -> list[str]:
        if not self.root.is_dir():
            return []
        return sorted(p.name for p in self.root.iterdir() if self.versions(p.name))

    def locate(self, ref: AdapterRef) -> AdapterRef:
        """The name and version that a reference names, whatever state its folder is in; raises `NotFound`."""
        versions = self.versions(ref.name)
        if not versions:
            hint = (
                did_you_mean(ref.name, self.names())
                or "make one with `resa-hub extract`, fetch one with `resa-hub pull`"
            )
            raise NotFound(f"no adapter is called {ref.name!r} in {self.root}", hint)
        labels = self.labels(ref.name) if ref.version and not VERSION.fullmatch(ref.version) else {}
        version = labels.get(ref.version or "", ref.version) or versions[-1]
        if version not in versions:
            what = "version" if VERSION.fullmatch(version) else "label"
            raise NotFound(f"{ref.name} has no {what} {version}", f"it has {', '.join([*versions, *labels])}")
        return AdapterRef(ref.name, version)

    def get(self, ref: AdapterRef) -> Adapter:
        """The adapter a reference names, its latest version when none is named.

        Raises `NotFound`, and `Integrity` where it cannot be read.
        """
        located = self.locate(ref)
        folder = self.folder(located)
        manifest = read_manifest(folder)
        if manifest.reference != str(located):
            raise Integrity(
                f"{folder} holds {manifest.reference}",
                "a version folder was renamed by hand: move it back, or remove it",
            )
        return Adapter(manifest, folder)

    def folder(self, ref: AdapterRef) -> Path:
        """Of a name with its version, as `locate` gives it."""
        return self.root / ref.name / str(ref.version)

    def by_content(self, ref: ContentRef) -> Adapter:
        """The adapter with this content hash, its oldest name and version where several have it.

        Raises `NotFound`, and `Usage` for too few digits.
        """
        adapters = [adapter for adapter in self.readable()[0] if adapter.manifest.content_hash.startswith(ref.digest)]
        if not adapters:
            raise NotFound(f"no adapter in {self.root} has the content hash {ref.digest}", "see `resa-hub list --json`")
        if len({adapter.manifest.content_hash for adapter in adapters}) > 1:
            raise Usage(f"{ref.digest} begins {len(adapters)} content hashes", "give more of its digits")
        return adapters[0]

    def labels(self, name: str) -> dict[str, str]:
        """Label -> version; labels of versions that are gone are left out."""
        path, versions = self.root / name / LABELS, self.versions(name)
        content = read_json(path) if path.is_file() else {}
        if not isinstance(content, dict):
            raise Integrity(f"{path} is not a mapping of labels", "remove that file, then set the labels again")
        return {label: version for label, version in content.items() if LABEL.fullmatch(label) and version in versions}

    def label(self, ref: AdapterRef, label: str | None) -> Adapter:
        """Let a label name a version, wherever it pointed before; `label` None takes the version's labels away."""
        with self.lock():
            adapter = self.get(ref)
            name, version = adapter.manifest.name, adapter.manifest.version
            labels = self.labels(name)
            if label is None:
                labels = {other: target for other, target in labels.items() if target != version}
            else:
                labels[check_label(label)] = version
            self.write(self.root / name / LABELS, json.dumps(labels, indent=2, sort_keys=True).encode() + b"\n")
        return adapter

    def remove(self, ref: AdapterRef) -> AdapterRef:
        """Take a version out of the store, also one that cannot be read; returns what was removed.

        It is gone at once, by a rename, and deleted afterwards.
        """
        with self.staging() as trash, self.lock():
            located = self.locate(ref)
            folder = self.folder(located)
            os.rename(folder, trash / "removed")
            sync_folder(folder.parent)
            if not self.versions(located.name):
                self._forget(folder.parent)
        return located

    def remains(self) -> list[Path]:
        """What no version needs: blobs without a link, folders of killed processes, names without a version."""
        if not self.root.is_dir():
            return []
        nameless = [folder for folder in self.root.iterdir() if self._is_forgotten(folder)]
        return [*abandoned(self.root), *self.blobs.unused(), *sorted(nameless)]

    def collect(self, listed: Collection[Path] | None = None) -> int:
        """Delete the remains, or those of them that are listed; returns the bytes freed."""
        if not self.root.is_dir():
            return 0
        with self.lock():
            return sum(_delete(path) for path in self.remains() if listed is None or path in listed)

    def _is_forgotten(self, folder: Path) -> bool:
        """The folder of a name whose versions are gone, with nothing of the user's in it."""
        if not NAME.fullmatch(folder.name) or not folder.is_dir() or self.versions(folder.name):
            return False
        return {path.name for path in folder.iterdir()} <= {LABELS}

    def _forget(self, folder: Path) -> None:
        """Remove the folder of a name without versions, unless something of the user's lies there."""
        (folder / LABELS).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()

    def readable(self) -> tuple[list[Adapter], list[tuple[str, HubError]]]:
        """Every adapter that can be read, and (reference, error) of those that cannot.

        One bad folder hides no other.
        """
        good, bad = [], []
        for name in self.names():
            for version in self.versions(name):
                try:
                    good.append(self.get(AdapterRef(name, version)))
                except HubError as error:
                    bad.append((f"{name}@{version}", error))
        return good, bad

    def with_recipe(self, digest: str, name: str) -> Adapter | None:
        """The newest version of `name` that a recipe made."""
        adapters = [adapter for adapter in self.readable()[0] if adapter.manifest.name == name]
        of_recipe = [adapter for adapter in adapters if adapter.manifest.recipe_digest == digest]
        return max(of_recipe, key=lambda adapter: version_key(adapter.manifest.version), default=None)

    def next_version(self, name: str) -> str:
        """0.1.0, then one minor version after the latest."""
        versions = self.versions(check_name(name))
        if not versions:
            return "0.1.0"
        major, minor, _ = version_key(versions[-1])
        return f"{major}.{minor + 1}.0"

    def _complete(self, target: Path, staged: Path, manifest: Manifest) -> None:
        """Give a version the SAE that an earlier pull left out."""
        if (staged / SAE).is_dir() and not (target / SAE).exists():
            sync_files(staged / SAE)
            self.blobs.share(staged, [entry for entry in manifest.files if entry.path.startswith(SAE)])
            os.rename(staged / SAE, target / SAE)
            sync_folder(target)

    def staging(self) -> AbstractContextManager[Path]:
        """An empty folder on the store's disk, removed afterwards whatever happens; raises `RunFailed`."""
        return staging_folder(self.root)

    def write(self, path: Path, data: bytes) -> None:
        """A small file inside the store, all or nothing: a killed process leaves nothing beside it."""
        with self.staging() as folder:
            staged = folder / path.name
            staged.write_bytes(data)
            sync_files(folder)
            os.replace(staged, path)
            sync_folder(path.parent)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """The store is this process's alone; raises `RunFailed` when another one holds it for a minute."""
        import filelock

        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(self.root / ".lock", timeout=60):
                yield
        except filelock.Timeout:
            raise RunFailed(
                f"another process holds the lock of {self.root} for a minute", "wait for it, or end it"
            ) from None
        except OSError as error:
            raise RunFailed(
                f"cannot write into {self.root}: {error.strerror}",
                "choose another --workspace, or mend its permissions",
            ) from None

    def add_next(self, staged: Path, name: str, finish: Callable[[str], None]) -> Adapter:
        """Add a folder as the next free version of `name`, whoever else adds at the same time.

        finish: completes the folder once its version is known.
        """
        with self.lock():
            finish(self.next_version(name))
            return self._add(staged)[0]

    def add(self, staged: Path, checked: tuple[FileEntry, ...] = ()) -> tuple[Adapter, bool]:
        """Move a checked adapter folder into the store; returns it and whether it is new.

        A version that exists with the same content is left as it is, but for an SAE that it lacked; with other bytes it
        is a `Conflict`.
        """
        with self.lock():
            return self._add(staged, checked)

    def _add(self, staged: Path, checked: tuple[FileEntry, ...] = ()) -> tuple[Adapter, bool]:
        manifest = verify_folder(staged, checked)
        target = self.root / check_name(manifest.name) / manifest.version
        if target.exists():
            present = self.get(AdapterRef(manifest.name, manifest.version))
            if present.manifest.content_hash == manifest.content_hash:
                self._complete(target, staged, manifest)
                return present, False
            raise Conflict(
                f"{manifest.reference} exists with other bytes ({present.manifest.content_hash[:19]}, not "
                f"{manifest.content_hash[:19]})",
                f"a version never changes: `resa-hub rm {manifest.reference}` first, or give the new one "
                "another version",
            )
        target.parent.mkdir(exist_ok=True)
        sync_files(staged)
        self.blobs.share(staged, [entry for entry in manifest.files if (staged / entry.path).exists()])
        os.rename(staged, target)
        sync_folder(target.parent)
        return Adapter(manifest, target), True


def _delete(path: Path) -> int:
    """Remove a file or a folder; returns its bytes."""
    if not path.is_dir():
        size = path.lstat().st_size
        path.unlink()
        return size
    size = sum((path / file).lstat().st_size for file in walk(path))
    shutil.rmtree(path, ignore_errors=True)
    return size


def lacks_sae(adapter: Adapter) -> bool:
    """Whether the adapter was made with an SAE that is not here."""
    return any(entry.path.startswith(SAE) for entry in adapter.manifest.files) and not (adapter.folder / SAE).exists()
