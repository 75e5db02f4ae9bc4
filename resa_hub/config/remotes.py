"""The kinds of remotes, one row each: how its references are written, and the class that opens them.

A new remote is a file with a class (`hub.remote.Remote` says what it can do) and a row of `REMOTES`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ..core import plugins
from ..core.errors import Usage
from .refs import AdapterRef, ContentRef, Repo, check_content_hash, is_path

OCI = re.compile(
    r"oci://(?P<location>[a-z0-9][a-z0-9.-]{0,200}(:\d{1,5})?(/[a-z0-9][a-z0-9._-]{0,100})+)"
    r"(:(?P<tag>[\w][\w.-]{0,127})|@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)


@dataclass(frozen=True)
class RemoteRef:
    """A remote, and perhaps the adapter or the revision wanted there; `REMOTES` says how each kind writes it."""

    scheme: str
    location: str
    adapter: AdapterRef | None = None
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> "RemoteRef":
        """The reference that `scheme:...` writes; raises `Usage` for an unknown scheme and for what its row refuses."""
        scheme, _, rest = text.partition(":")
        if is_path(text):
            raise Usage(f"{text!r} is not a remote", f"for the folder write folder:{text}")
        if scheme not in REMOTES or not rest:
            raise Usage(f"{text!r} is not a remote", f"write {_any_of([spec.example for spec in REMOTES.values()])}")
        return REMOTES[scheme].parse(text)

    def __str__(self) -> str:
        return REMOTES[self.scheme].text(self)


def parse_location(text: str) -> RemoteRef:
    """`scheme:location[@revision]`, for remotes whose places need no check."""
    scheme, _, rest = text.partition(":")
    location, _, revision = rest.partition("@")
    return RemoteRef(scheme, location, None, revision or None)


def write_location(ref: RemoteRef) -> str:
    """`scheme:location`, then `#adapter` or `@revision` where there is one."""
    tail = f"@{ref.revision}" if ref.revision else ""
    return f"{ref.scheme}:{ref.location}" + (f"#{ref.adapter}" if ref.adapter else tail)


class RemoteSpec(NamedTuple):
    implementation: str
    """`module:Class`, of `resa_hub.hub` or, where the module's name has a dot, of anywhere."""
    place: str
    """How the place alone is written, for the help of `push` and `search`."""
    version: str
    """How one version there is written, for the help of `pull`."""
    example: str
    """The same for the hint of an error."""
    parse: Callable[[str], RemoteRef] = parse_location
    """The reference that `scheme:...` writes; raises `Usage`."""
    text: Callable[[RemoteRef], str] = write_location
    """The reference as `parse` reads it."""


def _parse_folder(text: str) -> RemoteRef:
    path, _, adapter = text.removeprefix("folder:").partition("#")
    if not path:
        raise Usage(f"{text!r} names no folder", f"write {REMOTES['folder'].example}")
    return RemoteRef("folder", path, AdapterRef.parse(adapter) if adapter else None)


def _parse_hub(text: str) -> RemoteRef:
    repo = Repo.parse(text.removeprefix("hf:"))
    if is_path(repo.id) or repo.subfolder:
        raise Usage(f"{text!r} is not a Hub reference", f"write {REMOTES['hf'].example}")
    return RemoteRef("hf", repo.id, None, repo.revision)


def _parse_oci(text: str) -> RemoteRef:
    match = OCI.fullmatch(text)
    if not match or ".." in text:
        raise Usage(f"{text!r} is not a repository of a container registry", f"write {REMOTES['oci'].example}")
    return RemoteRef("oci", match["location"], None, match["tag"] or match["digest"])


def _write_oci(ref: RemoteRef) -> str:
    separator = "@" if (ref.revision or "").startswith("sha256:") else ":"
    return f"oci://{ref.location}" + (f"{separator}{ref.revision}" if ref.revision else "")


REMOTES: dict[str, RemoteSpec] = {
    "folder": RemoteSpec(
        implementation="folder:FolderRemote",
        place="folder:PATH",
        version="folder:PATH#NAME@VERSION",
        example="folder:PATH#name@version",
        parse=_parse_folder,
    ),
    "hf": RemoteSpec(
        implementation="huggingface:HubRemote",
        place="hf:OWNER/NAME",
        version="hf:OWNER/NAME@REVISION",
        example="hf:owner/name@revision",
        parse=_parse_hub,
    ),
    "oci": RemoteSpec(
        implementation="oci:OciRemote",
        place="oci://HOST/NAME",
        version="oci://HOST/NAME:TAG",
        example="oci://host/name:version",
        parse=_parse_oci,
        text=_write_oci,
    ),
} | plugins.rows("REMOTES", RemoteSpec)  # fmt: skip


def parse_adapter(text: str) -> AdapterRef | ContentRef | RemoteRef:
    """Any name of an adapter: `NAME[@VERSION]`, `sha256:...`, or a remote reference. Raises `Usage`."""
    scheme, colon, _ = text.partition(":")
    if scheme == "sha256":
        return ContentRef(check_content_hash(text))
    return RemoteRef.parse(text) if colon else AdapterRef.parse(text)


def _any_of(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


PLACES_HELP = _any_of([spec.place for spec in REMOTES.values()])
VERSIONS_HELP = _any_of([spec.version for spec in REMOTES.values()])
SEARCH_HELP = _any_of([spec.place for scheme, spec in REMOTES.items() if scheme != "hf"] + [REMOTES["hf"].place])
"""For the commands' help; a search goes over the whole Hub where no place is named, so that one stands last."""
