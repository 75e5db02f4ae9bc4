"""The git side: listings, commits, branches and tags."""

import base64
import hashlib
import json
from typing import Any
from urllib.parse import parse_qs

from .repo_routes import lfs_of
from .server import Request, route
from .storage import LFS_NAMES, Refusal, StoredFile, Tree


def entry(path: str, file: StoredFile) -> dict[str, Any]:
    return {"type": "file", "oid": file.oid, "path": path, **lfs_of(file, "oid")}


@route("GET", "/api/models/{repo}/tree/([^/]+)(?:/(.*))?")
def tree(request: Request, repo_id: str, revision: str, folder: str | None) -> None:
    commit = request.storage.resolve(request.storage.readable(repo_id, request.user), revision)
    prefix = f"{folder.strip('/')}/" if folder else ""
    recursive = request.query.get("recursive", ["false"])[0].lower() in ("true", "1")
    files, folders = [], set()
    for path, file in sorted(request.storage.commits[commit].tree.items()):
        if not path.startswith(prefix):
            continue
        parents = path[len(prefix) :].split("/")[:-1]
        folders |= {
            prefix + "/".join(parents[: depth + 1])
            for depth in range(len(parents) if recursive else min(1, len(parents)))
        }
        if recursive or not parents:
            files.append(entry(path, file))
    if prefix and not files and not folders:
        raise Refusal(404, "EntryNotFound", f"{prefix} does not exist", {"X-Repo-Commit": commit})
    listed = [
        {"type": "directory", "oid": hashlib.sha1(name.encode()).hexdigest(), "size": 0, "path": name}
        for name in sorted(folders)
    ]
    request.reply(listed + files, headers={"X-Repo-Commit": commit})


@route("POST", "/api/models/{repo}/paths-info/([^/]+)")
def paths_info(request: Request, repo_id: str, revision: str) -> None:
    commit = request.storage.resolve(request.storage.readable(repo_id, request.user), revision)
    asked = (
        request.json()["paths"]
        if "json" in request.headers.get("Content-Type", "")
        else parse_qs(request.body.decode())["paths"]
    )
    files = request.storage.commits[commit].tree
    request.reply([entry(path, files[path]) for path in asked if path in files])


@route("GET", "/api/models/{repo}/commits/([^/]+)")
def commits(request: Request, repo_id: str, revision: str) -> None:
    oid: str | None = request.storage.resolve(request.storage.readable(repo_id, request.user), revision)
    listed = []
    while oid:
        found = request.storage.commits[oid]
        listed.append(
            {
                "id": oid,
                "title": found.title,
                "message": found.message,
                "date": found.date,
                "authors": [{"user": found.author}],
            }
        )
        oid = found.parent
    request.reply(listed)


@route("POST", "/api/models/{repo}/preupload/([^/]+)")
def preupload(request: Request, repo_id: str, revision: str) -> None:
    """Says of each file whether it goes into the commit or to LFS, and what main holds under its name."""
    commit = request.storage.resolve(request.storage.writable(repo_id, request.user), revision)
    present = request.storage.commits[commit].tree
    answers = []
    for file in request.json()["files"]:
        mode = "lfs" if LFS_NAMES.fullmatch(file["path"]) else "regular"
        known = present.get(file["path"])
        oid = {"oid": known.sha256 if known.lfs else known.oid} if known else {}
        answers.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, **oid})
    request.reply({"files": answers, "commitOid": commit})


@route("POST", "/api/models/{repo}/commit/([^/]+)")
def commit(request: Request, repo_id: str, branch: str) -> None:
    repo = request.storage.writable(repo_id, request.user)
    if branch not in repo.branches:
        raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {branch}")
    head, (header, *operations) = (
        repo.branches[branch],
        [json.loads(line) for line in request.body.splitlines() if line],
    )
    if header["value"].get("parentCommit") not in (None, head):
        raise Refusal(412, "", "A commit has happened since. Please refresh and try again.")
    files = dict(request.storage.commits[head].tree)
    for operation in operations:
        apply(request, files, operation["key"], operation["value"])
    author, title, message = request.user or "", header["value"]["summary"], header["value"].get("description", "")
    repo.branches[branch] = oid = request.storage.add_commit(head, files, title, author, message)
    request.reply(
        {"success": True, "commitOid": oid, "commitUrl": f"{request.base}/{repo_id}/commit/{oid}", "hookOutput": ""}
    )


def apply(request: Request, files: Tree, kind: str, value: dict[str, Any]) -> None:
    path = value["path"]
    if kind == "file":
        files[path] = request.storage.regular_file(base64.b64decode(value["content"]))
    elif kind == "lfsFile":
        if not request.storage.has(value["oid"]):
            raise Refusal(400, "", f"LFS pointer pointed to a file that does not exist: {path}")
        files[path] = request.storage.lfs_file(value["oid"])
    elif kind == "deletedFile":
        if files.pop(path, None) is None:
            raise Refusal(404, "EntryNotFound", f"no file {path}")
    elif kind == "deletedFolder":
        for inside in [name for name in files if name.startswith(path.rstrip("/") + "/")]:
            del files[inside]
    else:
        raise Refusal(400, "", f"unknown operation {kind}")


@route("GET", "/api/models/{repo}/refs")
def refs(request: Request, repo_id: str) -> None:
    repo = request.storage.readable(repo_id, request.user)
    branches = [{"name": name, "ref": f"refs/heads/{name}", "targetCommit": oid} for name, oid in repo.branches.items()]
    tags = [{"name": name, "ref": f"refs/tags/{name}", "targetCommit": oid} for name, oid in repo.tags.items()]
    request.reply({"branches": branches, "tags": tags, "converts": []})


@route("POST", "/api/models/{repo}/(tag|branch)/(.+)")
def add_ref(request: Request, repo_id: str, kind: str, name: str) -> None:
    repo, asked = request.storage.writable(repo_id, request.user), request.json()
    new, start, known = (
        (asked["tag"], name, repo.tags)
        if kind == "tag"
        else (name, asked.get("startingPoint") or "main", repo.branches)
    )
    if new in known:
        raise Refusal(409, "", f"Reference {new} already exists")
    known[new] = request.storage.resolve(repo, start)
    request.reply({})


@route("DELETE", "/api/models/{repo}/(tag|branch)/(.+)")
def remove_ref(request: Request, repo_id: str, kind: str, name: str) -> None:
    repo = request.storage.writable(repo_id, request.user)
    known = repo.tags if kind == "tag" else repo.branches
    if name == "main":
        raise Refusal(403, "", "main cannot be deleted")
    if known.pop(name, None) is None:
        raise Refusal(404, "RevisionNotFound", f"Reference does not exist: {name}")
    request.reply({})
