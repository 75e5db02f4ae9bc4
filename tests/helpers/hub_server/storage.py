"""What a Hub remembers: blobs by their sha256, commits by their sha1, repositories with branches and tags."""

import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

LFS_NAMES = re.compile(r".*\.(safetensors|bin|pt|npz|gguf|parquet)")
GIT_ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"


class Refusal(Exception):
    """An answer that is not 200; `code` goes into X-Error-Code, where the client looks for it."""

    def __init__(self, status: int, code: str = "", message: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(message or code)
        self.status, self.code, self.message, self.headers = status, code, message or code, headers or {}


class StoredFile(NamedTuple):
    sha256: str
    size: int
    oid: str
    """The git name: of the content, or of the pointer for a file in LFS."""
    lfs: bool
    pointer_size: int = 0


Tree = dict[str, StoredFile]


class Commit(NamedTuple):
    parent: str | None
    tree: Tree
    title: str
    message: str
    author: str
    date: str


@dataclass
class Repo:
    private: bool
    branches: dict[str, str]
    created: str
    gated: bool = False
    tags: dict[str, str] = field(default_factory=dict)


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


class Storage:
    def __init__(self, root: Path) -> None:
        self.blobs = root / "blobs"
        self.blobs.mkdir(parents=True)
        self.repos: dict[str, Repo] = {}
        self.commits: dict[str, Commit] = {}
        self.parts: dict[tuple[str, int], bytes] = {}
        self.tampered: set[str] = set()
        """sha256 of blobs that are served with other bytes of the same size."""

    def put(self, content: bytes) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        (self.blobs / sha256).write_bytes(content)
        return sha256

    def has(self, sha256: str) -> bool:
        return (self.blobs / sha256).exists()

    def get(self, sha256: str) -> bytes:
        content = (self.blobs / sha256).read_bytes()
        return bytes([content[0] ^ 1]) + content[1:] if sha256 in self.tampered else content

    def regular_file(self, content: bytes) -> StoredFile:
        return StoredFile(self.put(content), len(content), git_oid(content), lfs=False)

    def lfs_file(self, sha256: str) -> StoredFile:
        size = (self.blobs / sha256).stat().st_size
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
        return StoredFile(sha256, size, git_oid(pointer), lfs=True, pointer_size=len(pointer))

    def file(self, path: str, content: bytes) -> StoredFile:
        return self.lfs_file(self.put(content)) if LFS_NAMES.fullmatch(path) else self.regular_file(content)

    def create(self, repo_id: str, author: str, private: bool) -> None:
        tree = {".gitattributes": self.regular_file(GIT_ATTRIBUTES)}
        self.repos[repo_id] = Repo(private, {"main": self.add_commit(None, tree, "initial commit", author)}, now())

    def add_commit(self, parent: str | None, tree: Tree, title: str, author: str, message: str = "") -> str:
        commit = Commit(parent, tree, title, message, author, now())
        oid = hashlib.sha1(json.dumps(commit).encode()).hexdigest()
        self.commits[oid] = commit
        return oid

    def advance(self, repo_id: str, changes: dict[str, bytes | None], branch: str = "main") -> str:
        """A commit behind the client's back: any path, any bytes; None removes."""
        repo = self.repos[repo_id]
        tree = dict(self.commits[repo.branches[branch]].tree)
        for path, content in changes.items():
            if content is None:
                del tree[path]
            else:
                tree[path] = self.file(path, content)
        repo.branches[branch] = self.add_commit(repo.branches[branch], tree, "somebody else", "somebody")
        return repo.branches[branch]

    def tree(self, repo_id: str, revision: str = "main") -> Tree:
        return self.commits[self.resolve(self.repos[repo_id], revision)].tree

    def resolve(self, repo: Repo, revision: str) -> str:
        named = {**repo.tags, **repo.branches}
        if revision in named:
            return named[revision]
        if revision in self.history(repo):
            return revision
        raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")

    def history(self, repo: Repo) -> list[str]:
        """Every commit that a branch or tag reaches."""
        found, open_ = [], [*repo.branches.values(), *repo.tags.values()]
        while open_:
            oid = open_.pop()
            if oid not in found:
                found.append(oid)
                open_ += [parent] if (parent := self.commits[oid].parent) else []
        return found

    def readable(self, repo_id: str, user: str | None) -> Repo:
        """The repository if this user may see it; the real Hub tells the anonymous 401, others 404."""
        repo = self.repos.get(repo_id)
        if repo is None or (repo.private and user != repo_id.split("/")[0]):
            raise (
                Refusal(404, "RepoNotFound", "Repository not found")
                if user
                else Refusal(401, "", "Invalid username or password.")
            )
        return repo

    def writable(self, repo_id: str, user: str | None) -> Repo:
        repo = self.readable(repo_id, user)
        if user is None:
            raise Refusal(401, "", "Invalid username or password.")
        if repo_id.split("/")[0] != user:
            raise Refusal(403, "", f"You don't have the rights to write to {repo_id}")
        return repo
