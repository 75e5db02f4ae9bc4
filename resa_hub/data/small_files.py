"""Single JSON files of a folder or repository, and what to say where they or the folder are missing."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..config.refs import Repo, is_path
from ..core.errors import HubError, NotFound, Usage
from ..core.files import read_json
from ..core.hub_errors import hub_answers, hub_errors
from . import tiny

CONFIG, LORA_CONFIG = "config.json", "adapter_config.json"


def small_file(repo: Repo, name: str) -> Any:
    """The content of a JSON file, None where folder or repository have no such file; no weights are fetched.

    Raises `NotFound` where folder or repository themselves are missing, `Network`, `Integrity`.
    """
    embedded = tiny.locate(repo.id)
    if embedded or is_path(repo.id):
        path = local_folder(repo) / name
        return read_json(path.resolve()) if path.is_file() else None
    from huggingface_hub import errors, hf_hub_download

    with on_hub(repo):
        try:
            where = {"revision": repo.revision, "subfolder": repo.subfolder, "local_files_only": not hub_answers()}
            path = Path(hf_hub_download(repo.id, name, **where))
        except errors.RemoteEntryNotFoundError:
            return None
    return read_json(path.resolve())


@contextlib.contextmanager
def on_hub(repo: Repo) -> Iterator[None]:
    """The errors of the Hub's client as ours; a folder that is written like a Hub id is pointed out."""
    try:
        with hub_errors(str(repo)):
            yield
    except HubError as error:
        if Path(repo.id).is_dir():
            raise type(error)(error.message, f"for the folder write ./{repo.id}") from None
        raise


def local_folder(repo: Repo, what: str = "model") -> Path:
    """The folder of an embedded or local id; raises `NotFound`."""
    folder = (tiny.locate(repo.id) or Path(repo.id).expanduser()) / (repo.subfolder or "")
    if folder.is_dir():
        return folder
    if folder.exists():
        raise NotFound(f"{repo.id} is a file, not a folder", f"name the folder that holds the {what}")
    raise NotFound(f"no such folder {repo.id}", f"check the path of the {what}")


def check_kind(repo: Repo, folder: Path, what: str) -> None:
    """Raise `NotFound` or `Usage` unless the folder of a repository holds a model or, as `what` says, an adapter."""
    is_lora = (folder / LORA_CONFIG).is_file()
    if what == "model" and not (folder / CONFIG).is_file():
        raise no_model(repo, is_lora=is_lora)
    if what == "adapter" and not is_lora:
        raise NotFound(
            f"{repo} holds no PEFT adapter: there is no {LORA_CONFIG}", "name the folder (or :subfolder) that holds it"
        )


def no_model(repo: Repo, *, is_lora: bool) -> HubError:
    """The error of a folder or repository without config.json."""
    if is_lora:
        return Usage(
            f"{repo} is a LoRA, not a whole model", f"a target is a whole model; as a source write BASE+{repo}"
        )
    return NotFound(f"{repo} holds no model: there is no {CONFIG}", "name the folder (or :subfolder) that holds it")
