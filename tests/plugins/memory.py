"""A remote of a plugin: adapters in the memory of this process, `memory:PLACE`."""

import shutil
import tempfile
from pathlib import Path

from resa_hub.adapter.store import Adapter
from resa_hub.adapter.verify import files_to_send
from resa_hub.config.remotes import RemoteRef, RemoteSpec
from resa_hub.core.errors import NotFound
from resa_hub.hub.remote import DownloadResult, PushResult, SearchHit

PLACES: dict[str, Path] = {}
REMOTES = {
    "memory": RemoteSpec(
        implementation="tests.plugins.memory:MemoryRemote",
        place="memory:PLACE",
        version="memory:PLACE",
        example="memory:place",
    )
}


class MemoryRemote:
    hashes_what_it_sends = False

    def __init__(self, ref: RemoteRef) -> None:
        self.ref = ref

    def push(self, adapter: Adapter, *, public: bool = False, dry_run: bool = False, sae: bool = True) -> PushResult:
        entries = files_to_send(adapter.folder, adapter.manifest, sae=sae)
        if not dry_run:
            PLACES[self.ref.location] = Path(shutil.copytree(adapter.folder, tempfile.mkdtemp(), dirs_exist_ok=True))
        return PushResult(str(self.ref), entries, changed=True)

    def pull(self, staging: Path, *, sae: bool = True) -> DownloadResult:
        if self.ref.location not in PLACES:
            raise NotFound(f"{self.ref} holds no adapter", "push one first")
        shutil.copytree(PLACES[self.ref.location], staging, dirs_exist_ok=True)
        return DownloadResult(str(self.ref), ())

    def search(self, *, base: str | None = None, text: str = "") -> list[SearchHit]:
        return []
