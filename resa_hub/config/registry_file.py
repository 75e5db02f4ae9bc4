"""A workspace's own `registry.yaml`: where it lies and how it is written."""

from pathlib import Path
from typing import Any

import msgspec
import yaml

from ..core.errors import Usage
from .registry import builtin_path, read_layer


def own_file(workspace: Any) -> Path:
    """The registry.yaml of the workspace, which need not exist yet; raises `Usage` where that is the built-in one."""
    path = workspace.folder / "registry.yaml"
    if path.exists() and path.resolve() == builtin_path().resolve():
        raise Usage(
            f"{path} is the registry that everybody starts with",
            "write into a workspace of your own: --workspace FOLDER",
        )
    return path


def lean(value: Any) -> Any:
    """What differs from the defaults: an entry as a person would write it."""
    if not isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    fields = msgspec.structs.fields(value)
    return {
        f.name: lean(getattr(value, f.name))
        for f in fields
        if getattr(value, f.name) != f.default and getattr(value, f.name) not in ({}, ())
    }


def write(path: Path, fresh: dict[str, dict[str, Any]], kept: str = "registry.yaml.before-pin") -> None:
    """The entries (section -> name -> entry) into the file, whole or not at all, under the store's lock; a file with
    comments is kept beside as `kept`.
    """
    content: dict[str, Any] = {}
    if path.exists():
        read_layer(path)  # a mistake in it is told before it is written over
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text) or {}
        if "#" in text:
            path.with_name(kept).write_text(text, encoding="utf-8")
    for kind, entries in fresh.items():
        content[kind] = (content.get(kind) or {}) | entries
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(".registry.yaml.new")
    staged.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=160), encoding="utf-8")
    staged.replace(path)
