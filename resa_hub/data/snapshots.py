"""Where the bytes of a reference are: embedded in the package, in a local folder, or on the Hub (by commit)."""

import fnmatch
import glob
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ..config.refs import Repo, is_path
from ..core.errors import NotFound
from ..core.files import hash_file, read_json
from ..core.strict import canonical_digest
from . import tiny
from .small_files import LORA_CONFIG, LORA_WEIGHTS, check_files, check_kind, local_folder, on_hub

SAE_CONFIG = "cfg.json"
SAE_FORMATS = {"sae_weights.safetensors": "saelens", "sae.safetensors": "sparsify"}
"""Weights file -> format; the config has one name in both."""
MODEL_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")
ADAPTER_FILES = (LORA_CONFIG, LORA_WEIGHTS)
"""All that is read of an adapter: a trainer leaves states and a tokenizer beside them."""


@dataclass(frozen=True)
class Files:
    """The local folder of a model or adapter and the revision it stands for."""

    id: str
    revision: str
    folder: Path

    @cached_property
    def weights(self) -> list[Path]:
        paths = sorted(self.folder.glob("*.safetensors"))
        if not paths:
            raise NotFound(
                f"{self.id} has no safetensors weights in {self.folder}", "only safetensors are read, never pickles"
            )
        return paths

    @cached_property
    def weights_digest(self) -> str:
        return weights_digest(self.weights)

    @cached_property
    def config(self) -> dict[str, Any]:
        # The cache of the Hub's client is made of links, which `read_json` refuses.
        return read_json((self.folder / "config.json").resolve())

    def digest_of(self, *names: str) -> str:
        """sha256 of the first of these files that exists; empty when none does."""
        for name in names:
            if (self.folder / name).is_file():
                return hash_file((self.folder / name).resolve())[1]
        return ""


@dataclass(frozen=True)
class SaeFiles:
    """A folder with one SAE."""

    origin: str
    folder: Path
    format: str
    """saelens or sparsify."""
    hookpoint: str | None
    """What it was made for, None where nothing says so."""

    @cached_property
    def config(self) -> Any:
        return read_json((self.folder / SAE_CONFIG).resolve())

    @cached_property
    def digest(self) -> str:
        """sha256 over the hashes of config and weights."""
        weights = next(name for name, kind in SAE_FORMATS.items() if kind == self.format)
        return canonical_digest([hash_file((self.folder / name).resolve())[1] for name in (SAE_CONFIG, weights)])


NAMED = 5
"""Rows that lack a part, of those that are left out."""


class Rows(NamedTuple):
    """The texts of a data set, read and named."""

    name: str
    id: str
    revision: str
    pairs: list[tuple[str, str]]
    """(question, answer) without chain of thought."""
    thoughts: list[str] | None = None
    """The chain of thought of each pair, where it was asked for."""
    lacking: tuple[str, ...] = ()
    """Where rows were left out because they lack a question, an answer or the chain of thought that was asked for:
    `line 7`, `row 7`.
    """

    @property
    def left_out(self) -> str:
        """`3 of 300 rows lack a part and are left out: line 4, line 9, line 12`."""
        count, more = len(self.lacking), ", ..." if len(self.lacking) > NAMED else ""
        named = ", ".join(self.lacking[:NAMED]) + more
        return f"{count:,} of {count + len(self.pairs):,} rows lack a part and are left out: {named}"

    @property
    def fingerprint(self) -> str:
        return text_digest([part for pair in self.pairs for part in pair] + (self.thoughts or []))


def weights_digest(paths: list[Path]) -> str:
    """sha256 over the (size, sha256) of the weight files, sorted: names do not matter, bytes do."""
    return canonical_digest(sorted(hash_file(path.resolve()) for path in paths))


def locate(repo: Repo, what: str = "model") -> Files:
    """The files of a repository, fetched from the Hub when they are not local.

    what: model or adapter. Raises `NotFound`, `Network`, and `Usage` for a LoRA where a whole model is meant.
    """
    embedded = tiny.locate(repo.id)
    if repo.id.startswith(tiny.PREFIX) and not embedded:
        raise NotFound(f"no embedded {what} is called {repo.id!r}", "see `resa-hub registry models`")
    if embedded or is_path(repo.id):
        folder = local_folder(repo, what)
        revision = ""
    else:
        folder, revision = _from_hub(repo, what)
    check_kind(repo, folder, what)
    return Files(repo.id, revision or weights_digest(sorted(folder.glob("*.safetensors"))), folder)


def _from_hub(repo: Repo, what: str) -> tuple[Path, str]:
    """(folder, commit). The listing is asked for first: a repository that does not hold what is meant costs no more,
    and of one that does, files of other folders are left where they are.
    """
    from huggingface_hub import HfApi, snapshot_download

    with on_hub(repo):
        # Ask first: a silent snapshot may be a stale copy of a repository that is gone.
        info = HfApi().model_info(repo.id, revision=repo.revision)
        commit, top = info.sha or "", f"{repo.subfolder.strip('/')}/" if repo.subfolder else ""
        listed = [sibling.rfilename for sibling in info.siblings or ()]
        inside = [name.removeprefix(top) for name in listed if name.startswith(top)]
        check_files(repo, inside, what, listed)
        wanted = [glob.escape(top + name) for name in needed_files(inside, what)]
        folder = snapshot_download(repo.id, revision=commit, allow_patterns=wanted)
    return Path(folder) / top, commit


def needed_files(paths: Iterable[str], what: str) -> list[str]:
    """Those of a folder's files that are read of a model or adapter; none of the folders below."""
    patterns = ADAPTER_FILES if what == "adapter" else MODEL_FILES
    return [path for path in paths if "/" not in path and any(fnmatch.fnmatch(path, each) for each in patterns)]


def text_digest(texts: list[str]) -> str:
    """sha256 over the texts, each ended by a zero byte."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return "sha256:" + digest.hexdigest()
