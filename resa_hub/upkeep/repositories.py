"""Caches that are laid out as the Hugging Face client's: where they lie, and one repository taken out of them."""

import shutil
from pathlib import Path

from ..core.errors import RunFailed


def hub_cache() -> Path:
    """The client's own cache of this user: HF_HUB_CACHE, HF_HOME or ~/.cache/huggingface decide."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def delete_repository(path: Path) -> None:
    """Take all revisions of the repository in this folder out of its cache; raises `RunFailed` where that cannot be
    done.
    """
    from huggingface_hub import scan_cache_dir

    known = next((repo for repo in scan_cache_dir(path.parent).repos if repo.repo_path == path), None)
    try:
        if known:
            commits = [revision.commit_hash for revision in known.revisions]
            scan_cache_dir(path.parent).delete_revisions(*commits).execute()
        if path.exists():  # the client knows no revision of it: a download that never ended
            shutil.rmtree(path)
    except OSError as error:
        raise RunFailed(f"cannot remove {path}: {error.strerror}", "check its permissions") from None
