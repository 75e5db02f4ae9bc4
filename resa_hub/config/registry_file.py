"""A workspace's own `registry.yaml`: where it lies and how it is written."""

from pathlib import Path
from typing import Any

import msgspec
import yaml

from ..core.errors import Usage
from .registry import builtin_path, read_layer


def workspace_registry(workspace: Any) -> Path:
    """The registry.yaml of a workspace, which need not exist yet; raises `Usage` where that is the built-in one."""
    path = workspace.folder / "registry.yaml"
    if path.exists() and path.resolve() == builtin_path().resolve():
        raise Usage(
            f"{path} is the registry that everybody starts with",
            "write into a workspace of your own: --workspace FOLDER",
        )
    return path


def minimal_entry(value: Any) -> Any:
    """The fields that differ from their defaults, empty ones left out: an entry as a person would write it."""
    if not isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    given = ((field, getattr(value, field.name)) for field in msgspec.structs.fields(value))
    return {field.name: minimal_entry(part) for field, part in given if part != field.default and part not in ({}, ())}


def update_registry(
    path: Path, fresh: dict[str, dict[str, Any]], backup_name: str = "registry.yaml.before-pin"
) -> None:
    """Write the entries (section -> name -> entry) into the file, whole or not at all.

    The caller holds the store's lock. YAML comments are lost, so a file that has any is copied to `backup_name` first.
    """
    content: dict[str, Any] = {}
    if path.exists():
        read_layer(path)  # raises for a mistake before it is written over
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text) or {}
        if "#" in text:
            path.with_name(backup_name).write_text(text, encoding="utf-8")
    for kind, entries in fresh.items():
        content[kind] = (content.get(kind) or {}) | entries
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(".registry.yaml.new")
    staged.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=160), encoding="utf-8")
    staged.replace(path)
