"""What of a repository is on this machine already, told by folders alone: nothing is fetched, no client is loaded."""

import os
from pathlib import Path

from ..config.refs import Repo, is_path
from ..core.errors import NotFound
from ..core.files import COMMIT, read_json
from . import tiny
from .small_files import CONFIG, LORA_CONFIG, check_kind, local_folder
from .snapshots import Files

WEIGHTS_INDEX = "model.safetensors.index.json"


def at_hand(repo: Repo, what: str = "model") -> Files | None:
    """The files of an embedded model, of a local folder or of a snapshot in the Hub's cache; None for what has yet to
    be fetched. The revision of a local folder, a digest of its weights, is left empty.

    Raises as `snapshots.locate` does for what is not there.
    """
    if is_local(repo):
        folder = local_folder(repo, what)
        check_kind(repo, folder, what)
        files = Files(repo.id, "", folder)
    else:
        cached = _snapshot(repo, "models")
        if cached is None:
            return None
        folder = cached / (repo.subfolder or "")
        files = Files(repo.id, cached.name, folder)
        config = folder / (CONFIG if what == "model" else LORA_CONFIG)
        if not config.is_file() or not _has_weights(folder):
            return None  # a small file was asked for, and the weights were not
    return files


def _has_weights(folder: Path) -> bool:
    """All of them: a download that was interrupted leaves the index and some of the files that it names."""
    index = folder / WEIGHTS_INDEX
    named = read_json(index).get("weight_map") if index.is_file() else None
    if isinstance(named, dict):
        return all((folder / name).is_file() for name in set(map(str, named.values())))
    return any(folder.glob("*.safetensors"))


def is_local(repo: Repo) -> bool:
    """Raises `NotFound` for the id of an embedded model that does not exist."""
    embedded = tiny.locate(repo.id)
    if repo.id.startswith(tiny.PREFIX) and not embedded:
        raise NotFound(f"no embedded model is called {repo.id!r}", "see `resa-hub registry models`")
    return bool(embedded) or is_path(repo.id)


def dataset_at_hand(id_: str) -> bool:
    """Whether the Hub's cache has a snapshot of this data set."""
    return _snapshot(Repo(id_), "datasets") is not None


def sae_at_hand(repo: Repo) -> bool:
    """Whether there is a folder or snapshot of the repository of an SAE; which hookpoints it holds is not looked at."""
    return is_path(repo.id) or _snapshot(repo, "models") is not None


def _snapshot(repo: Repo, kind: str) -> Path | None:
    """The folder of a revision in the cache of the Hub's client."""
    root = _cache() / f"{kind}--{repo.id.replace('/', '--')}"
    revision = repo.revision or "main"
    if not COMMIT.fullmatch(revision):
        try:
            revision = (root / "refs" / revision).read_text().strip()
        except OSError:
            return None
    folder = root / "snapshots" / revision
    return folder if COMMIT.fullmatch(revision) and folder.is_dir() else None


def _cache() -> Path:
    """HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME or the home folder decide, as for the client."""
    environment = os.environ
    home = environment.get("HF_HOME") or f"{environment.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    return Path(environment.get("HF_HUB_CACHE") or f"{home}/hub").expanduser()
