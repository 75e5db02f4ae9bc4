"""What a person's own model is, told by its small files: a whole model or a LoRA, on which base, of which sizes."""

import contextlib
from pathlib import Path
from typing import Any

from ..config.refs import ModelRef, Repo, is_path
from ..config.registry import Registry
from ..core.errors import HubError, NotFound, Usage
from .small_files import CONFIG, LORA_CONFIG, no_model, small_file


def on_its_base(text: str, registry: Registry) -> str:
    """A LoRA that is named alone as `base+LoRA`, the base as the registry or its adapter_config.json names it; any
    other text as it is.

    A folder or repository with an adapter_config.json is a LoRA, as transformers reads it. Raises `NotFound`,
    `Network`, and `Usage` where the LoRA names no base that is one.
    """
    if "+" in text or not ("/" in text or is_path(text)):
        return text
    repo = Repo.parse(text)
    found = small_file(repo, LORA_CONFIG)
    if found is None:
        return text
    if known := registry.base_of_adapter(repo.id):
        return f"{known}+{text}"
    base = found.get("base_model_name_or_path") if isinstance(found, dict) else None
    revision = found.get("revision") if isinstance(found, dict) else None
    with contextlib.suppress(HubError):
        return f"{_base_name(base, revision, registry)}+{text}"
    named = f"names the base {base!r}, which is no Hub id, folder or name of the registry" if base else "names no base"
    raise Usage(f"{text} is a LoRA, and its {LORA_CONFIG} {named}", f"say it: --source BASE+{text}")


def _base_name(base: Any, revision: Any, registry: Registry) -> str:
    """The registry's name of a base, else its id; raises `HubError` for what is none."""
    name = registry.name_of_base(str(base or ""))
    if isinstance(revision, str) and revision and name == base and "@" not in name and not is_path(name):
        name = f"{name}@{revision}"
    repo = registry.require_base_model(name).base
    if is_path(repo.id) and not Path(repo.id).expanduser().is_dir():
        raise NotFound(f"no such folder {repo.id}")
    return name


def model_config(ref: ModelRef, name: str, registry: Registry) -> dict[str, Any]:
    """The config.json of the base of a model, or the sizes that the registry gives of it: no weights are read.

    name: how the caller names the model. Raises `NotFound` where there is none, and `Network`.
    """
    entry = registry.model_entry(registry.base_name(name))
    if entry and entry.config:
        return dict(entry.config)
    found = small_file(ref.base, CONFIG)
    if not isinstance(found, dict):
        raise no_model(ref.base, is_lora=small_file(ref.base, LORA_CONFIG) is not None)
    return found
