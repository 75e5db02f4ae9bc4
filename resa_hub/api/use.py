"""Using: `attach`, `export`."""

import os
from collections.abc import Sequence
from pathlib import Path

from ..adapter.workspace import Workspace, WorkspaceLike
from ..hub.resolve import resolve_adapter
from ..inference import attach as attaching
from ..inference import import_export
from ..inference.attach import Attached
from .choices import AdapterLike, reference


def attach(
    name: AdapterLike | None = None,
    *,
    target: str,
    prompts: Sequence[str] = (),
    temperature: float = 0.0,
    new_tokens: int = 256,
    seed: int = 0,
    merge: str | os.PathLike[str] | None = None,
    force: bool = False,
    workspace: WorkspaceLike = None,
) -> Attached:
    """Put an adapter on a model, prove that it took effect, and complete the prompts.

    name: None takes the registry's default for the target, or the only adapter that fits. new_tokens: budget of each
    completion. merge: a new folder for the whole model, adapter included. force: also where the weights are unrelated.
    The effect is a KL in nats a token. Raises `NotFound`, `Usage`, `DoesNotFit`, `Integrity`, `NoEffect`, `Network`.
    """
    if isinstance(prompts, str):
        prompts = (prompts,)
    return attaching.attach(
        None if name is None else reference(name),
        target=target,
        prompts=prompts,
        workspace=workspace,
        force=force,
        temperature=temperature,
        new_tokens=new_tokens,
        seed=seed,
        merge=Path(merge) if merge is not None else None,
    )


def export(
    name: AdapterLike,
    folder: str | os.PathLike[str],
    *,
    base: str | None = None,
    sae: bool = False,
    sae_format: str = "saelens",
    workspace: WorkspaceLike = None,
) -> Path:
    """Write a plain PEFT folder for serving stacks, and return its path; every byte is checked on the way.

    folder: a new one. base: what `base_model_name_or_path` shall say. sae: with its SAE, in `sae_format` (saelens or
    sparsify). Raises `NotFound`, `Usage` unless the folder is free, `Integrity`, `RunFailed`.
    """
    adapter = resolve_adapter(reference(name), Workspace.find(workspace))
    return import_export.export(adapter, Path(folder), base=base, sae=sae, sae_format=sae_format)
