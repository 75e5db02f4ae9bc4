"""References as types: `parse` makes one from text, `str` gives the text back, bad text raises `Usage`."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..core.errors import Usage

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,95}")
VERSION = re.compile(r"(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})", re.ASCII)
REVISION = re.compile(r"[\w][\w./-]{0,254}")
LABEL = re.compile(r"(?!v\d)[a-z][a-z0-9._-]{0,63}", re.ASCII)
CONTENT = re.compile(r"sha256:[0-9a-f]{8,64}", re.ASCII)
HUB_ID = re.compile(r"[\w][\w.-]{0,95}/[\w][\w.-]{0,95}", re.ASCII)
HOOKPOINT = re.compile(r"layers\.(0|[1-9]\d{0,3})(\.mlp)?", re.ASCII)
COLUMNS = re.compile(r"(.+?):(\w+=[^,=/:]+(?:,\w+=[^,=/:]+)*)")
DATA_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


def is_path(text: str) -> bool:
    return text.startswith(("./", "../", "/", "~"))


def _checked(pattern: re.Pattern[str], text: str, what: str, example: str) -> str:
    if not pattern.fullmatch(text) or ".." in text:
        raise Usage(f"{text!r} is not a {what}", f"write it like {example}")
    return text


def check_name(text: str) -> str:
    return _checked(NAME, text, "name (lower-case letters, digits, '.', '_', '-', 96 at most)", "resa-still-v1")


def check_version(text: str) -> str:
    return _checked(VERSION, text, "version", "0.1.0")


@dataclass(frozen=True)
class Repo:
    """Something kept at `owner/name[@revision][:subfolder]`, or in a local folder."""

    id: str
    revision: str | None = None
    subfolder: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Repo":
        if is_path(text):
            return cls(text)
        rest, _, subfolder = text.partition(":")
        id_, _, revision = rest.partition("@")
        _checked(HUB_ID, id_, "Hub id", "owner/name@revision, or ./path for a folder")
        if revision:
            _checked(REVISION, revision, "revision", "main or a commit")
        if subfolder and (PurePosixPath(subfolder).is_absolute() or ".." in PurePosixPath(subfolder).parts):
            raise Usage(f"subfolder {subfolder!r} leaves the repository", "name a folder inside it")
        return cls(id_, revision or None, subfolder or None)

    def __str__(self) -> str:
        return (
            self.id + (f"@{self.revision}" if self.revision else "") + (f":{self.subfolder}" if self.subfolder else "")
        )


@dataclass(frozen=True)
class ModelRef:
    """A base model, perhaps with a PEFT adapter on it: `base@rev+adapter@rev:subfolder`."""

    base: Repo
    adapter: Repo | None = None

    @classmethod
    def parse(cls, text: str) -> "ModelRef":
        base, plus, adapter = text.partition("+")
        return cls(Repo.parse(base), Repo.parse(adapter) if plus else None)

    def __str__(self) -> str:
        return str(self.base) + (f"+{self.adapter}" if self.adapter else "")

    def named(self, name: str) -> str:
        """`NAME = REF`, or the reference alone where that is what it is called."""
        return str(self) if name == str(self) else f"{name} = {self}"


def check_label(text: str) -> str:
    if text == "latest":
        raise Usage("the label latest always names the newest version", "choose another word")
    return _checked(LABEL, text, "label (a lower-case word that does not begin like a version)", "best")


@dataclass(frozen=True)
class AdapterRef:
    """An adapter of the store: `NAME`, `NAME@latest`, `NAME@0.2.0` (`v0.2.0` is the same) or `NAME@label`."""

    name: str
    version: str | None = None
    """Version or label; None is the latest."""

    @classmethod
    def parse(cls, text: str) -> "AdapterRef":
        name, at, version = text.partition("@")
        if is_path(text):
            raise Usage(
                f"{text!r} is not a name: it is written like a folder or file",
                f"import a folder first: resa-hub import {text}",
            )
        check_name(name)
        if re.match(r"v?\d", version):
            version = check_version(version.removeprefix("v"))
        elif at and version != "latest":
            check_label(version)
        return cls(name, None if version in ("", "latest") else version)

    def __str__(self) -> str:
        return self.name + (f"@{self.version}" if self.version else "")


@dataclass(frozen=True)
class ContentRef:
    """An adapter by its identity: `sha256:` and the first 8 to 64 hexadecimal digits of its content hash."""

    digest: str

    def __str__(self) -> str:
        return self.digest


@dataclass(frozen=True)
class SaeRef:
    """A sparse autoencoder: the repository or folder that holds it and the hookpoint it was made for."""

    repo: Repo
    hookpoint: str | None = None

    @classmethod
    def parse(cls, text: str) -> "SaeRef":
        repo, _, hookpoint = text.partition("#")
        return cls(Repo.parse(repo), check_hookpoint(hookpoint) if hookpoint else None)

    def __str__(self) -> str:
        return str(self.repo) + (f"#{self.hookpoint}" if self.hookpoint else "")


@dataclass(frozen=True)
class DatasetRef:
    """A data set on the Hub or a local file; `split` defaults to train."""

    repo: Repo
    split: str = "train"

    @classmethod
    def parse(cls, text: str) -> "DatasetRef":
        if text.endswith(DATA_SUFFIXES):
            return cls(Repo(text))
        repo, _, split = text.partition("#")
        return cls(Repo.parse(repo), split or "train")

    def __str__(self) -> str:
        return str(self.repo) + (f"#{self.split}" if self.split != "train" else "")


def split_columns(text: str) -> tuple[str, dict[str, str]]:
    """`./rows.jsonl:question=prompt,answer=target` as (`./rows.jsonl`, the columns); raises `Usage` for other parts."""
    match = COLUMNS.fullmatch(text)
    if not match:
        return text, {}
    columns = dict(pair.split("=") for pair in match[2].split(","))
    if unknown := next((part for part in columns if part not in ("question", "answer", "solution")), None):
        raise Usage(
            f"{text!r}: {unknown!r} is no part of a data set",
            f"write {match[1]}:question=COLUMN,answer=COLUMN,solution=COLUMN",
        )
    return match[1], columns


def check_content_hash(text: str) -> str:
    return _checked(CONTENT, text, "content hash", "sha256: and 8 to 64 hexadecimal digits")


def check_hookpoint(text: str) -> str:
    return _checked(HOOKPOINT, text, "hookpoint", "layers.12 or layers.12.mlp (0-based)")


def layer_of(hookpoint: str) -> int:
    """The 0-based layer of `layers.N` or `layers.N.mlp`."""
    return int(check_hookpoint(hookpoint).split(".")[1])
