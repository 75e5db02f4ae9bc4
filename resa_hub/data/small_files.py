"""Single JSON files of a folder or repository, and what to say where they or the folder are missing."""

import contextlib
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..config.refs import Repo, is_path
from ..core.errors import HubError, NotFound, Usage
from ..core.files import read_json
from ..core.hub_errors import hub_answers, hub_errors
from . import tiny

CONFIG, LORA_CONFIG, LORA_WEIGHTS = "config.json", "adapter_config.json", "adapter_model.safetensors"
KINDS = {"model": CONFIG, "adapter": LORA_CONFIG}
"""What a folder holds -> the file that tells it."""
NAMED = 6
"""Folders that an error lists."""


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
    names = {name for name in (CONFIG, LORA_CONFIG, LORA_WEIGHTS) if (folder / name).is_file()}
    nested = sorted(folder.glob("*/*config.json")) if KINDS[what] not in names else []
    check_files(repo, names | {path.relative_to(folder).as_posix() for path in nested}, what)


def check_files(repo: Repo, paths: Iterable[str], what: str, whole: Sequence[str] = ()) -> None:
    """As `check_kind`, by the paths of the files inside the folder; the error names folders that do.

    whole: all paths of a repository of which `paths` are those of a subfolder.
    """
    present = set(paths)
    if what == "model" and CONFIG not in present:
        raise no_model(repo, is_lora=LORA_CONFIG in present, where=_where(repo, present, CONFIG, whole))
    if what == "adapter" and LORA_CONFIG not in present:
        where = _where(repo, present, LORA_CONFIG, whole)
        raise NotFound(f"{repo} holds no PEFT adapter: there is no {LORA_CONFIG}", where)
    if what == "adapter" and LORA_WEIGHTS not in present:
        raise NotFound(
            f"{repo} has no {LORA_WEIGHTS}",
            "only safetensors are read, never pickles: save it again with a newer PEFT",
        )


ELSEWHERE = "name the folder (or :subfolder) that holds it"


def no_model(repo: Repo, *, is_lora: bool, where: str = ELSEWHERE) -> HubError:
    """The error of a folder or repository without config.json; where: the next step, where no LoRA is meant."""
    if is_lora:
        return Usage(
            f"{repo} is a LoRA, not a whole model", f"a target is a whole model; as a source write BASE+{repo}"
        )
    return NotFound(f"{repo} holds no model: there is no {CONFIG}", where)


def _where(repo: Repo, paths: Collection[str], config: str, whole: Sequence[str]) -> str:
    """What to write where only folders below hold this config, or others than the subfolder that was named."""
    folders, top = _folders(paths, config), repo.subfolder
    if not folders:
        folders, top = _folders(whole, config), None
    if not folders:
        return ELSEWHERE
    if is_path(repo.id):
        example = f"{repo.id.rstrip('/')}/{folders[-1]}"
    else:
        example = str(Repo(repo.id, repo.revision, "/".join(part for part in (top, folders[-1]) if part)))
    listed = ", ".join(folders[:NAMED]) + (", ..." if len(folders) > NAMED else "")
    return f"it lies in {listed}: name one, as {example}"


def _folders(paths: Iterable[str], name: str) -> list[str]:
    """Those that hold a file of this name, checkpoint-500 before checkpoint-2000."""

    def by_number(folder: str) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", folder)]

    return sorted({path.rpartition("/")[0] for path in paths if path.endswith(f"/{name}")}, key=by_number)
