"""Data sets: the same storage and answers as models, under the paths that `datasets` asks."""

from . import git_routes, lfs_routes, repo_routes
from .server import Request, route
from .storage import Refusal, Storage

for methods, pattern, action in (
    ("GET", "/api/datasets/{repo}", repo_routes.info),
    ("GET", "/api/datasets/{repo}/revision/([^/]+)", repo_routes.info_at),
    ("GET", "/api/datasets/{repo}/tree/([^/]+)(?:/(.*))?", git_routes.tree),
    ("POST", "/api/datasets/{repo}/paths-info/([^/]+)", git_routes.paths_info),
    ("GET HEAD", "/datasets/{repo}/resolve/([^/]+)/(.+)", lfs_routes.resolve),
):
    route(methods, pattern)(action)


@route("GET", "/api/datasets/{repo}/auth-check")
def auth_check(request: Request, repo_id: str) -> None:
    if request.storage.readable(repo_id, request.user).gated and request.user != repo_id.split("/")[0]:
        raise Refusal(403 if request.user else 401, "GatedRepo", f"Access to dataset {repo_id} is restricted.")
    request.reply({})


@route("GET", "/api/datasets/{repo}/xet-read-token/([^/]+)")
def no_xet(request: Request, repo_id: str, revision: str) -> None:
    raise Refusal(404, "", "not stored in Xet")


def publish(storage: Storage, repo_id: str, files: dict[str, bytes], gated: bool = False) -> str:
    """A data set of these files; the commit."""
    storage.create(repo_id, "somebody", private=False)
    storage.repos[repo_id].gated = gated
    return storage.advance(repo_id, dict(files))
