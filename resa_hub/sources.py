"""Where the bytes of a reference are: embedded in the package, in a local folder, or on the Hub (by commit)."""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from . import tiny
from .adapter.files import hash_file, read_json
from .errors import Network, NotFound
from .recipe import canonical_digest
from .refs import Repo, is_path

MODEL_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]


@dataclass(frozen=True)
class Files:
    """The local folder of a model or adapter and the revision it stands for."""

    id: str
    revision: str
    folder: Path

    @cached_property
    def weights(self) -> list[Path]:
        found = sorted(self.folder.glob("*.safetensors"))
        if not found:
            raise NotFound(f"{self.id} has no safetensors weights in {self.folder}", "only safetensors are read, never pickles")
        return found

    @cached_property
    def weights_digest(self) -> str:
        return weights_digest(self.weights)

    @cached_property
    def config(self) -> dict[str, Any]:
        return read_json(self.folder / "config.json")

    def digest_of(self, *names: str) -> str:
        """sha256 of the first of these files that exists; empty when none does."""
        for name in names:
            if (self.folder / name).is_file():
                return hash_file(self.folder / name)[1]
        return ""


def weights_digest(paths: list[Path]) -> str:
    """sha256 over the (size, sha256) of the weight files, sorted: names do not matter, bytes do."""
    return canonical_digest(sorted(hash_file(path.resolve()) for path in paths))


def locate(repo: Repo, what: str = "model") -> Files:
    """The files of a repository, fetched from the Hub when they are not local; raises `NotFound` or `Network`."""
    embedded = tiny.locate(repo.id)
    if embedded or is_path(repo.id):
        folder = (embedded or Path(repo.id).expanduser()) / (repo.subfolder or "")
        if not folder.is_dir():
            raise NotFound(f"the {what} folder {folder} does not exist", "check the path")
        return Files(repo.id, weights_digest(sorted(folder.glob("*.safetensors"))), folder)
    if repo.id.startswith(tiny.PREFIX):
        raise NotFound(f"no embedded {what} is called {repo.id!r}", "see `resa-hub registry models`")
    return _from_hub(repo)


def _from_hub(repo: Repo) -> Files:
    from huggingface_hub import HfApi, snapshot_download

    with hub_errors(str(repo)):
        # Ask first: a silent snapshot may be a stale copy of a repository that is gone.
        commit = HfApi().model_info(repo.id, revision=repo.revision).sha or ""
        prefix = f"{repo.subfolder}/" if repo.subfolder else ""
        folder = snapshot_download(repo.id, revision=commit, allow_patterns=[prefix + pattern for pattern in MODEL_FILES])
    return Files(repo.id, commit, Path(folder) / (repo.subfolder or ""))


@contextlib.contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Turn what the Hub's client raises into our errors."""
    from huggingface_hub import errors

    try:
        yield
    except errors.RevisionNotFoundError:
        raise NotFound(f"{what}: the repository has no such revision", "check what follows the @") from None
    except errors.GatedRepoError:
        raise Network(f"{what}: access is restricted", "ask for access on its page, then log in with `hf auth login`") from None
    except errors.RepositoryNotFoundError:
        raise NotFound(f"{what}: no such repository, or it is private", "check the name; for a private one log in with `hf auth login`") from None
    except errors.EntryNotFoundError as error:
        raise NotFound(f"{what}: {str(error).splitlines()[0]}", "the repository does not hold that file") from None
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        hint = "log in with `hf auth login`, or check the token's rights" if status in (401, 403) else "try again later"
        raise Network(f"{what}: the Hub answered {status}", hint) from None
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError, OSError) as error:
        # httpx and httpx2 raise classes of their own that do not derive from OSError: see below.
        raise Network(f"{what}: the Hub cannot be reached ({type(error).__name__})", "check the network and HF_ENDPOINT, or name a local folder") from None
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("httpx", "httpx2", "httpcore", "httpcore2", "requests"):
            raise
        raise Network(f"{what}: the Hub cannot be reached ({type(error).__name__})", "check the network and HF_ENDPOINT, or name a local folder") from None


def text_digest(texts: list[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return "sha256:" + digest.hexdigest()
