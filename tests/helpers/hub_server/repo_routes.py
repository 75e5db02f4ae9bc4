"""Repositories as the Hub's API shows them: create, delete, information, search, settings."""

import re
from typing import Any

import yaml

from .server import Request, route
from .storage import Refusal, Repo, StoredFile


@route("GET", "/api/whoami-v2")
def whoami(request: Request) -> None:
    if not request.user:
        raise Refusal(401, "", "Invalid username or password.")
    token = {"type": "access_token", "accessToken": {"displayName": "test", "role": "write"}}
    request.reply(
        {"type": "user", "id": "1", "name": request.user, "fullname": request.user, "orgs": [], "auth": token}
    )


@route("POST", "/api/repos/create")
def create(request: Request) -> None:
    asked = request.json()
    owner = asked.get("organization") or request.user
    repo_id = f"{owner}/{asked['name']}"
    if not request.user:
        raise Refusal(401, "", "Invalid username or password.")
    if owner != request.user:
        raise Refusal(403, "", f"You don't have the rights to create a model under the namespace {owner}")
    if repo_id in request.storage.repos:
        raise Refusal(409, "", "You already created this model repo")
    request.storage.create(
        repo_id, request.user, private=bool(asked.get("private")) or asked.get("visibility") == "private"
    )
    request.reply({"url": f"{request.base}/{repo_id}", "name": repo_id, "id": repo_id})


@route("DELETE", "/api/repos/delete")
def delete(request: Request) -> None:
    asked = request.json()
    repo_id = f"{asked.get('organization') or request.user}/{asked['name']}"
    request.storage.writable(repo_id, request.user)
    del request.storage.repos[repo_id]
    request.reply({})


@route("PUT", "/api/models/{repo}/settings")
def settings(request: Request, repo_id: str) -> None:
    repo, asked = request.storage.writable(repo_id, request.user), request.json()
    repo.private = asked.get("private", repo.private) if "visibility" not in asked else asked["visibility"] == "private"
    repo.gated = asked.get("gated", repo.gated)
    request.reply(asked)


@route("POST", "/api/validate-yaml")
def validate_card(request: Request) -> None:
    request.reply({"errors": [], "warnings": []})


@route("GET", "/api/models/{repo}")
def info(request: Request, repo_id: str) -> None:
    info_at(request, repo_id, "main")


@route("GET", "/api/models/{repo}/revision/([^/]+)")
def info_at(request: Request, repo_id: str, revision: str) -> None:
    repo = request.storage.readable(repo_id, request.user)
    commit = request.storage.resolve(repo, revision)
    described = describe(request, repo_id, repo, commit)
    if "blobs" in request.query:
        described["siblings"] = [
            {"rfilename": path, "blobId": file.oid, **lfs_of(file, "sha256")} for path, file in tree_of(request, commit)
        ]
    request.reply(described, headers={"X-Repo-Commit": commit})


@route("GET", "/api/models")
def search(request: Request) -> None:
    wanted = [name for value in request.query.get("filter", []) for name in value.split(",")]
    text, author = request.query.get("search", [""])[0].lower(), request.query.get("author", [None])[0]
    found = []
    for repo_id, repo in request.storage.repos.items():
        owner = repo_id.split("/")[0]
        described = describe(request, repo_id, repo, repo.branches["main"])
        if (repo.private and request.user != owner) or author not in (None, owner) or text not in repo_id.lower():
            continue
        if all(name in described["tags"] for name in wanted):
            found.append(described)
    request.reply(found[: int(request.query.get("limit", ["1000"])[0])])


def tree_of(request: Request, commit: str) -> list[tuple[str, StoredFile]]:
    return sorted(request.storage.commits[commit].tree.items())


def lfs_of(file: StoredFile, name: str) -> dict[str, Any]:
    """`size`, and `lfs` for a file in LFS, whose digest each answer calls differently."""
    return {
        "size": file.size,
        **({"lfs": {name: file.sha256, "size": file.size, "pointerSize": file.pointer_size}} if file.lfs else {}),
    }


def describe(request: Request, repo_id: str, repo: Repo, commit: str) -> dict[str, Any]:
    card = card_of(request, commit)
    tags = [*(card.get("tags") or []), *([card["library_name"]] if card.get("library_name") else [])]
    if base := card.get("base_model"):
        tags += [f"base_model:{base}", f"base_model:{card.get('base_model_relation', 'adapter')}:{base}"]
    return {
        "_id": "1",
        "id": repo_id,
        "modelId": repo_id,
        "author": repo_id.split("/")[0],
        "sha": commit,
        "private": repo.private,
        "gated": repo.gated,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": tags,
        "library_name": card.get("library_name"),
        "pipeline_tag": card.get("pipeline_tag"),
        "cardData": card,
        "lastModified": request.storage.commits[commit].date,
        "createdAt": repo.created,
        "usedStorage": 0,
        "siblings": [{"rfilename": path} for path, _ in tree_of(request, commit)],
    }


def card_of(request: Request, commit: str) -> dict[str, Any]:
    """The metadata in front of the README."""
    readme = request.storage.commits[commit].tree.get("README.md")
    match = re.match(rb"---\n(.*?)\n---", request.storage.get(readme.sha256), re.S) if readme else None
    return (yaml.safe_load(match[1]) or {}) if match else {}
