"""The local store: `adapters/<name>/<version>/`. Writing is a staging folder, a check, and one rename under a lock."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import Conflict, HubError, Integrity, NotFound, RunFailed, did_you_mean
from ..refs import NAME, VERSION, AdapterRef, check_name
from .files import identity_of, safetensors_header, scan
from .manifest import Manifest, read_manifest

STAGING = ".staging"


class Adapter(NamedTuple):
    manifest: Manifest
    folder: Path


def version_key(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


class Store:
    def __init__(self, root: Path) -> None:
        self.root = root

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

    def get(self, ref: AdapterRef) -> Adapter:
        """The adapter a reference names, its latest version when none is named; raises `NotFound`."""
        versions = self.versions(ref.name)
        if not versions:
            hint = did_you_mean(ref.name, self.names()) or "make one with `resa-hub extract`, fetch one with `resa-hub pull`"
            raise NotFound(f"no adapter is called {ref.name!r} in {self.root}", hint)
        version = ref.version or versions[-1]
        if version not in versions:
            raise NotFound(f"{ref.name} has no version {version}", f"it has {', '.join(versions)}")
        folder = self.root / ref.name / version
        manifest = read_manifest(folder)
        if (manifest.name, manifest.version) != (ref.name, version):
            raise Integrity(f"{folder} holds {manifest.reference}", "a version folder was renamed by hand: move it back, or remove it")
        return Adapter(manifest, folder)

    def all(self) -> list[Adapter]:
        return [self.get(AdapterRef(name, version)) for name in self.names() for version in self.versions(name)]

    def readable(self) -> tuple[list[Adapter], list[tuple[str, HubError]]]:
        """Every adapter that can be read, and (reference, error) of those that cannot: one bad folder hides no other."""
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
        found = [adapter for adapter in self.readable()[0] if adapter.manifest.recipe_digest == digest and adapter.manifest.name == name]
        return max(found, key=lambda adapter: version_key(adapter.manifest.version)) if found else None

    def next_version(self, name: str) -> str:
        """0.1.0, then one minor version after the latest."""
        versions = self.versions(check_name(name))
        if not versions:
            return "0.1.0"
        major, minor, _ = version_key(versions[-1])
        return f"{major}.{minor + 1}.0"

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """An empty folder beside the store, removed afterwards whatever happens; what killed processes left goes first."""
        try:
            remove_abandoned(self.root / STAGING)
            folder = self.root / STAGING / f"{_machine()}.{os.getpid()}.{uuid.uuid4().hex}"
            folder.mkdir(parents=True)
        except OSError as error:
            raise RunFailed(f"cannot write into {self.root}: {error.strerror}", "choose another --workspace, or mend its permissions") from None
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        import filelock

        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(self.root / ".lock", timeout=60):
                yield
        except filelock.Timeout:
            raise RunFailed(f"another process holds the lock of {self.root} for a minute", "wait for it, or end it") from None
        except OSError as error:
            raise RunFailed(f"cannot write into {self.root}: {error.strerror}", "choose another --workspace, or mend its permissions") from None

    def add(self, staged: Path) -> tuple[Adapter, bool]:
        """Move a complete adapter folder into the store. Returns it and whether it is new.

        A version that exists with the same content is left as it is; with other bytes it is a `Conflict`.
        """
        verify(staged)
        manifest = read_manifest(staged)
        target = self.root / check_name(manifest.name) / manifest.version
        with self.lock():
            if target.exists():
                present = self.get(AdapterRef(manifest.name, manifest.version))
                if present.manifest.content_hash == manifest.content_hash:
                    return present, False
                raise Conflict(
                    f"{manifest.reference} exists with other bytes ({present.manifest.content_hash[:19]}, not {manifest.content_hash[:19]})",
                    "a version never changes: remove that folder first, or give the new one another version",
                )
            target.parent.mkdir(exist_ok=True)
            sync(staged)
            os.rename(staged, target)
            sync_folder(target.parent)
        return Adapter(manifest, target), True


def verify(folder: Path) -> Manifest:
    """Check every byte that the manifest vouches for; raises `Integrity` naming the first file that differs."""
    manifest = read_manifest(folder)
    found = {entry.path: entry for entry in identity_of(scan(folder))}
    for entry in manifest.files:
        present = found.pop(entry.path, None)
        if present is None:
            raise Integrity(f"{entry.path} of {manifest.reference} is missing", "pull it again")
        if present != entry:
            raise Integrity(
                f"{entry.path} of {manifest.reference} was changed: sha256 {present.sha256[:16]}, the manifest says {entry.sha256[:16]}", "pull it again"
            )
        if entry.path.endswith(".safetensors"):
            safetensors_header(folder / entry.path)
    if found:
        raise Integrity(f"{next(iter(found))} of {manifest.reference} is not in its manifest", "remove that file, or pull the adapter again")
    return manifest


def _machine() -> str:
    import platform

    return platform.node().replace("/", "-") or "localhost"


def remove_abandoned(staging: Path) -> None:
    """Staging folders of this machine whose process is gone."""
    for folder in staging.glob(f"{_machine()}.*.*"):
        try:
            os.kill(int(folder.name.split(".")[-2]), 0)
        except (ProcessLookupError, ValueError):
            shutil.rmtree(folder, ignore_errors=True)
        except PermissionError:
            continue  # alive, of another user


def sync(folder: Path) -> None:
    """Make every file below a folder readable and flush it to the disk."""
    for root, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(root, name), "rb") as file:
                os.fchmod(file.fileno(), 0o644)  # safetensors writes for its owner alone
                os.fsync(file.fileno())
        sync_folder(Path(root))


def sync_folder(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
