"""Large files up, all files down: the LFS batch protocol (one part or many), `resolve` with Range, and the host for
files.
"""

import hashlib
import re

from .server import Request, route
from .storage import Refusal


@route("POST", r"/{repo}\.git/info/lfs/objects/batch")
def batch(request: Request, repo_id: str) -> None:
    request.storage.writable(repo_id, request.user)
    objects = []
    for asked in request.json()["objects"]:
        answer = {"oid": asked["oid"], "size": asked["size"]}
        if not request.storage.has(asked["oid"]):
            verify = {"href": f"{request.base}/{repo_id}.git/info/lfs/verify", "header": {}}
            answer["actions"] = {"upload": upload_action(request, asked["oid"], asked["size"]), "verify": verify}
        objects.append(answer)
    request.reply({"transfer": "basic", "objects": objects}, headers={"Content-Type": "application/vnd.git-lfs+json"})


def upload_action(request: Request, oid: str, size: int) -> dict[str, object]:
    part = request.server.hub.multipart_above
    if not part or size <= part:
        return {"href": f"{request.base}/_lfs/put/{oid}"}
    parts = {str(number): f"{request.base}/_lfs/part/{oid}/{number}" for number in range(1, -(-size // part) + 1)}
    return {"href": f"{request.base}/_lfs/complete/{oid}", "header": {"chunk_size": str(part), **parts}}


@route("PUT", r"/_lfs/put/(\w+)")
def put(request: Request, oid: str) -> None:
    keep(request, oid, request.body)
    request.reply()


@route("PUT", r"/_lfs/part/(\w+)/(\d+)")
def put_part(request: Request, oid: str, number: str) -> None:
    request.storage.parts[oid, int(number)] = request.body
    request.reply(headers={"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})


@route("POST", r"/_lfs/complete/(\w+)")
def complete(request: Request, oid: str) -> None:
    keep(
        request, oid, b"".join(request.storage.parts.pop((oid, part["partNumber"])) for part in request.json()["parts"])
    )
    request.reply({})


def keep(request: Request, oid: str, content: bytes) -> None:
    if hashlib.sha256(content).hexdigest() != oid:
        raise Refusal(400, "", "the bytes do not have this oid")
    request.storage.put(content)


@route("POST", r"/{repo}\.git/info/lfs/verify")
def verify(request: Request, repo_id: str) -> None:
    asked = request.json()
    if not request.storage.has(asked["oid"]) or request.storage.lfs_file(asked["oid"]).size != asked["size"]:
        raise Refusal(404, "", "object missing")
    request.reply({})


@route("GET HEAD", "/{repo}/resolve/([^/]+)/(.+)")
def resolve(request: Request, repo_id: str, revision: str, path: str) -> None:
    repo = request.storage.readable(repo_id, request.user)
    commit = request.storage.resolve(repo, revision)
    file = request.storage.commits[commit].tree.get(path)
    if repo.gated and request.user != repo_id.split("/")[0]:
        raise Refusal(
            403 if request.user else 401,
            "GatedRepo",
            f"Access to model {repo_id} is restricted.",
            {"X-Repo-Commit": commit},
        )
    if file is None:
        raise Refusal(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
    etag = f'"{file.sha256 if file.lfs else file.oid}"'
    headers = {
        "X-Repo-Commit": commit,
        "ETag": etag,
        **({"X-Linked-Etag": etag, "X-Linked-Size": str(file.size)} if file.lfs else {}),
    }
    if file.lfs and request.server.hub.redirect_files:
        request.reply(
            status=302,
            headers={**headers, "Location": f"{request.server.hub.files_url}/_files/{file.sha256}?signature=1"},
        )
    else:
        serve(request, file.sha256, headers)


@route("GET HEAD", r"/_files/(\w+)")
def signed(request: Request, sha256: str) -> None:
    """The URL itself is the permission: no token belongs here."""
    serve(request, sha256, {"ETag": f'"{sha256}"'})


def serve(request: Request, sha256: str, headers: dict[str, str]) -> None:
    content = request.storage.get(sha256)
    headers = {**headers, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range") or "")
    if not asked:
        if request.server.hub.cut_files and request.command == "GET":
            request.reply_cut(content, headers)
        request.reply(raw=content, headers=headers)
        return
    first, last = int(asked[1]), min(int(asked[2] or len(content) - 1), len(content) - 1)
    if first >= len(content):
        raise Refusal(416, "", "no such range", {"Content-Range": f"bytes */{len(content)}"})
    request.reply(
        raw=content[first : last + 1],
        status=206,
        headers={**headers, "Content-Range": f"bytes {first}-{last}/{len(content)}"},
    )
