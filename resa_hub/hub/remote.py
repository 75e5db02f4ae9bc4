"""What every remote can do, and how a reference finds its remote."""

from pathlib import Path
from typing import NamedTuple, Protocol

from ..adapter.layout import FileEntry
from ..adapter.store import Adapter
from ..config.remotes import REMOTES, RemoteRef
from ..core import plugins
from ..core.notebook import card, line, table
from ..core.quantities import count, size


class PushResult(NamedTuple):
    """What a push did, or would do when it was a dry run."""

    uri: str
    """Names exactly what is now there: `pull` takes it."""
    sent: tuple[FileEntry, ...]
    changed: bool
    """False when the remote held all of it already."""
    removed: tuple[str, ...] = ()
    """What earlier versions had there and this one has not: gone from the newest state, kept under their tags."""
    sae: "PushResult | None" = None
    """Of the SAE, where it went into a repository of its own."""

    def __repr__(self) -> str:
        return line("PushResult", f"{self.uri}, {self._told()}")

    def _told(self) -> str:
        if not self.changed:
            return "which had it all already"
        return f"{count(len(self.sent), 'file')}, {size(sum(entry.size for entry in self.sent))}"

    def _repr_html_(self) -> str:
        files = [{"file": entry.path, "size": size(entry.size)} for entry in self.sent]
        files += [{"file": path, "size": "removed"} for path in self.removed]
        told = {"sent": self._told(), "its SAE": self.sae.uri if self.sae else ""}
        return card(self.uri, told, table(files) if files else "")


class SearchHit(NamedTuple):
    """An adapter that a search found. What it says of itself is its author's claim: nothing was fetched or checked."""

    ref: str
    """For `pull`."""
    name: str
    base: str
    method: str
    tags: tuple[str, ...]
    verdicts: tuple[str, ...]
    """What its card says of verdicts, as "transferred on tiny-r1, tiny-chain"."""
    updated: str

    def __repr__(self) -> str:
        stated = "; ".join(self.verdicts) or "nothing"
        return line("SearchHit", f"{self.ref} {self.method} on {self.base}, stated: {stated}")

    def _cells(self) -> dict[str, str]:
        return {
            "adapter": self.ref,
            "base": self.base,
            "method": self.method,
            "stated": "\n".join(self.verdicts),
            "updated": self.updated[:10],
        }


class DownloadResult(NamedTuple):
    location: str
    """Exactly where it came from."""
    checked: tuple[FileEntry, ...]
    """Files whose sha256 was taken while they were written: nobody has to read them again to know their bytes."""


class Remote(Protocol):
    """One place, opened by a reference."""

    hashes_what_it_sends: bool
    """Whether large files are held against their sha256 while they are copied: then nobody has to read them before."""

    def push(self, adapter: Adapter, *, public: bool, dry_run: bool, sae: bool = True) -> PushResult:
        """Send what the remote lacks, without the SAE where `sae` is false.

        public: whoever may read the place, where that is made here. dry_run: only say what would be sent. Raises
        `Conflict` when the version exists there with other bytes.
        """
        ...

    def pull(self, staging: Path, *, sae: bool = True) -> DownloadResult:
        """Fill the empty folder `staging`, without the SAE where none is wanted.

        Raises `NotFound`, and `Integrity` for bytes that differ.
        """
        ...

    def search(self, *, base: str | None = None, text: str = "") -> list[SearchHit]:
        """What the place holds; `base` and `text` may narrow it where the place can.

        Raises `NotFound` and `Network`.
        """
        ...


def open_remote(ref: RemoteRef) -> Remote:
    """The remote of a reference. Nothing is read or sent yet."""
    return plugins.resolve(REMOTES[ref.scheme].implementation, "resa_hub.hub")(ref)
