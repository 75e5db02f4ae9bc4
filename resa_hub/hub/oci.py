"""`oci://host/name[:tag|@sha256:...]`: a container registry, as serving stacks use them (extra `oci`).

One image manifest a version, tagged `v0.1.0`; every file of the adapter is a layer whose title is its path. Layers are
addressed by their sha256: each is checked on arrival, and a tag that names other layers than the manifest inside
vouches for is refused with it.
"""

import contextlib
import hashlib
import json
import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..adapter.layout import CARD, MANIFEST, SAE, FileEntry, same_but_for_sae
from ..adapter.store import Adapter, version_key
from ..adapter.verify import files_to_send
from ..config.refs import VERSION
from ..config.remotes import RemoteRef
from ..core.errors import Conflict, HubError, Integrity, Network, NotFound
from ..core.files import parse_json
from ..core.install import missing
from .huggingface_client import is_hostile, is_loopback
from .remote import DownloadResult, PushResult, SearchHit
from .transfer import SHA256, check_listed, copy_verified, sha256_of

TYPE = "application/vnd.resa-hub.adapter.v1"
IMAGE = "application/vnd.oci.image.manifest.v1+json"
TITLE = "org.opencontainers.image.title"
NAME, VERSION_OF, CONTENT_HASH, SUMMARY = (
    "resa-hub.name",
    "resa-hub.version",
    "resa-hub.content-hash",
    "resa-hub.described",
)
"""Annotations of the manifest, for people and for search: what counts is the adapter's own resa.json."""
CHUNKED = 64 << 20
"""Bytes beyond which a layer is sent in pieces."""
MAX_LAYERS = 1_000
TIMEOUT = 10.0
"""Seconds for the first connection."""
EMPTY_CONFIG = b"{}"


class _Image(NamedTuple):
    """A checked image manifest."""

    digest: str
    files: tuple[FileEntry, ...]
    annotations: dict[str, Any]


class OciRemote:
    hashes_what_it_sends = False

    def __init__(self, ref: RemoteRef) -> None:
        self.ref = ref
        self.host, _, self.repository = ref.location.partition("/")

    def push(self, adapter: Adapter, *, public: bool = False, dry_run: bool = False, sae: bool = True) -> PushResult:
        """Layers first, then the tag; who may read it is the container registry's own matter, `public` changes nothing.

        Raises `Conflict` when the tag has other bytes.
        """
        entries = files_to_send(adapter.folder, adapter.manifest, sae=sae)
        tag = f"v{adapter.manifest.version}"
        with self._client() as client:
            present = self._image(client, tag, missing=None)
            theirs = present.files if present else ()
            if present and not same_but_for_sae(theirs, entries):
                raise Conflict(
                    f"{tag} exists in {self.ref} with other bytes",
                    "a version never changes: give yours another version",
                )
            hashes, paths = {entry.sha256 for entry in theirs}, {entry.path for entry in entries}
            sent = tuple(entry for entry in entries if entry.sha256 not in hashes)
            # Evaluations that others added stay, and so does an SAE that this push leaves at home.
            added = tuple(each for each in theirs if each.path not in paths and each.path.startswith((SAE, "evals/")))
            wanted = {*entries, *added}
            if present and set(theirs) == wanted:
                return PushResult(self._uri(present.digest), (), False)
            if dry_run:
                return PushResult(self._uri(present.digest) if present else str(self.ref), sent, True)
            self._upload(client, adapter, entries, added, tag)
            landed = self._image(client, tag)
            if landed is None or set(landed.files) != wanted:
                raise Conflict(f"{tag} of {self.ref} was set by somebody else meanwhile", "push again")
        return PushResult(self._uri(landed.digest), sent, True)

    def pull(self, staging: Path, *, sae: bool = True) -> DownloadResult:
        """Fetch the layers of one manifest into an empty folder, the newest version where no tag is named.

        The location is `oci://host/name@sha256:...`.
        """
        with self._client() as client:
            image = self._image(client, self._reference(client))
            assert image is not None
            if MANIFEST not in {entry.path for entry in image.files}:
                raise NotFound(
                    f"{self.ref} holds no adapter: there is no {MANIFEST}",
                    "only adapters that resa-hub pushed can be pulled",
                )
            with tempfile.TemporaryDirectory() as folder:
                wanted = tuple(entry for entry in image.files if sae or not entry.path.startswith(SAE))
                for entry in wanted:
                    copy = Path(folder) / entry.sha256
                    client.download_blob(self._container(client, image.digest), f"sha256:{entry.sha256}", str(copy))
                    copy_verified(
                        copy, staging / entry.path, entry.size, sha256_of(entry), f"{entry.path} of {self.ref}"
                    )
                    copy.unlink()
        return DownloadResult(self._uri(image.digest), wanted)

    def search(self, *, base: str | None = None, text: str = "") -> list[SearchHit]:
        """The versions of this one repository, newest first; one that cannot be read is left out."""
        hits = []
        with self._client() as client:
            for tag in self._tags(client):
                image = self._image(client, tag)
                if image:
                    with contextlib.suppress(ValueError, HubError):
                        hits.append(self._search_hit(tag, image.annotations))
        return hits

    def _search_hit(self, tag: str, annotations: dict[str, Any]) -> SearchHit:
        summary = parse_json(str(annotations.get(SUMMARY, "{}")).encode(), "the annotations")
        return SearchHit(
            ref=str(RemoteRef("oci", self.ref.location, None, tag)),
            name=str(annotations.get(NAME, self.repository)),
            base=str(summary.get("base", "")),
            method=str(summary.get("method", "")),
            tags=(),
            verdicts=(),
            updated=str(summary.get("created", "")),
        )

    def _reference(self, client: Any) -> str:
        """The tag or digest that is wanted; the newest version where none is named."""
        revision = self.ref.revision
        if revision:
            return f"v{revision}" if VERSION.fullmatch(revision) else revision
        tags = self._tags(client)
        if not tags:
            raise NotFound(
                f"{self.ref} holds no version of an adapter", f"send one with `resa-hub push NAME --to {self.ref}`"
            )
        return tags[0]

    def _tags(self, client: Any) -> list[str]:
        """The tags that are versions, newest first."""
        try:
            tags = client.get_tags(self._container(client))
        except (ValueError, KeyError) as error:
            raise NotFound(f"{self.ref}: no such repository, or it is private ({error})", "check the name") from None
        return sorted(
            (tag for tag in tags if tag.startswith("v") and VERSION.fullmatch(tag[1:])),
            key=lambda tag: version_key(tag[1:]),
            reverse=True,
        )

    def _image(self, client: Any, reference: str, missing: type[HubError] | None = NotFound) -> _Image | None:
        """The checked manifest of a tag or digest; None where there is none and `missing` is None."""
        container = self._container(client, reference)
        response = client.do_request(f"{client.prefix}://{container.manifest_url()}", "GET", headers={"Accept": IMAGE})
        if response.status_code == 404:
            if missing:
                raise missing(f"{self.ref} has no {reference}", "check the name and the version")
            return None
        if response.status_code != 200:
            raise Network(
                f"{self.ref}: the container registry answered {response.status_code}",
                "check the name, or log in with `oras login`",
            )
        where, digest = f"{self.ref}, {reference}", f"sha256:{hashlib.sha256(response.content).hexdigest()}"
        if reference.startswith("sha256:") and reference != digest:
            raise Integrity(
                f"{where}: the container registry gave a manifest with another digest",
                "do not use it: ask whoever runs it",
            )
        return _Image(digest, *_checked(parse_json(response.content, "the manifest"), where))

    def _upload(
        self, client: Any, adapter: Adapter, entries: tuple[FileEntry, ...], added: tuple[FileEntry, ...], tag: str
    ) -> None:
        """Send the files and the manifest that lists them. added: files whose bytes are there."""
        container, m = self._container(client, tag), adapter.manifest
        digest = hashlib.sha256(EMPTY_CONFIG).hexdigest()
        config = {"mediaType": TYPE, "size": len(EMPTY_CONFIG), "digest": f"sha256:{digest}"}
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            file.write(EMPTY_CONFIG)
            file.flush()
            response = client.upload_blob(file.name, container, config, do_chunked=False)
            _require(response, f"{self.ref}: upload of {Path(file.name).name}")
        layers = [_layer(entry) for entry in entries]
        for entry, layer in zip(entries, layers, strict=True):
            path = adapter.folder / entry.path
            response = client.upload_blob(str(path), container, layer, do_chunked=entry.size > CHUNKED)
            _require(response, f"{self.ref}: upload of {path.name}")
        summary = {"base": m.base.id, "method": m.method, "created": m.run.created}
        manifest = {
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "artifactType": TYPE,
            "config": config,
            "layers": [*layers, *map(_layer, added)],
            "annotations": {
                NAME: m.name,
                VERSION_OF: m.version,
                CONTENT_HASH: m.content_hash,
                SUMMARY: json.dumps(summary, sort_keys=True),
            },
        }
        _require(client.upload_manifest(manifest, container), f"{self.ref}: upload of the manifest")

    def _container(self, client: Any, reference: str = "latest") -> Any:
        mark = "@" if reference.startswith("sha256:") else ":"
        return client.get_container(f"{self.ref.location}{mark}{reference}")

    @contextlib.contextmanager
    def _client(self) -> Iterator[Any]:
        """The client of oras: plain http to this machine only. What it raises becomes ours."""
        try:
            import oras.client
        except ImportError:
            raise missing("remotes of oci:// need oras", "oci") from None
        import requests

        place = urlsplit(f"//{self.host}")
        host = place.hostname or ""
        try:  # oras itself would try a dead one for a minute
            socket.create_connection((host, place.port or (80 if is_loopback(host) else 443)), TIMEOUT).close()
        except OSError as error:
            raise self._out_of_reach(error.strerror or error) from None
        try:
            yield oras.client.OrasClient(hostname=self.host, insecure=is_loopback(host))
        except HubError:
            raise
        except requests.RequestException as error:
            raise self._out_of_reach(type(error).__name__) from None
        except ValueError as error:  # how oras says that a log-in is needed, or that an answer was not the expected one
            raise Network(
                f"{self.ref}: {' '.join(str(error).split())[:160]}", "check the name, or log in with `oras login`"
            ) from None

    def _out_of_reach(self, reason: object) -> Network:
        return Network(f"{self.ref}: the container registry cannot be reached ({reason})", "check name and network")

    def _uri(self, digest: str) -> str:
        return f"oci://{self.ref.location}@{digest}"


def _layer(entry: FileEntry) -> dict[str, Any]:
    kind = "application/octet-stream"
    if entry.path == CARD:
        kind = "text/markdown"
    elif entry.path.endswith(".json"):
        kind = "application/json"
    return {
        "mediaType": kind,
        "size": entry.size,
        "digest": f"sha256:{entry.sha256}",
        "annotations": {TITLE: entry.path},
    }


def _require(response: Any, what: str) -> None:
    if response.status_code not in (200, 201, 202):
        hint = "log in with `oras login`" if response.status_code in (401, 403) else "try again later"
        raise Network(f"{what}: the container registry answered {response.status_code}", hint)


def _checked(content: Any, where: str) -> tuple[tuple[FileEntry, ...], dict[str, Any]]:
    """(files, annotations) of an image manifest.

    Raises `Integrity` unless it lists the files of an adapter and nothing else.
    """
    layers = content.get("layers") if isinstance(content, dict) else None
    if not isinstance(layers, list) or len(layers) > MAX_LAYERS:
        raise Integrity(f"{where} is no image manifest with layers", "it is not an adapter")
    files: dict[str, FileEntry] = {}
    for layer in layers:
        try:
            path, size, digest = layer["annotations"][TITLE], layer["size"], layer["digest"]
        except (TypeError, KeyError):
            raise Integrity(f"{where} has a layer without a title, size or digest", "it is not an adapter") from None
        inside = isinstance(path, str) and not is_hostile(path)
        if not inside or path in files or not isinstance(size, int) or isinstance(size, bool):
            raise Integrity(f"{where} lists {path!r}, which is no file of an adapter", "do not use it: ask its author")
        if not isinstance(digest, str) or not re.fullmatch(f"sha256:{SHA256}", digest):
            raise Integrity(f"{where} gives {path} no sha256", "do not use it: ask its author")
        check_listed(path, size, where)
        files[path] = FileEntry(path=path, size=size, sha256=digest.removeprefix("sha256:"))
    annotations = content.get("annotations")
    return tuple(files.values()), annotations if isinstance(annotations, dict) else {}
