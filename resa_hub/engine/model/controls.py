"""Control adapters computed on the fly: random ones of equal norm, and the adapter with its sign inverted."""

import os
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from ...adapter.layout import CONFIG, WEIGHTS
from .lora import State, norms, random_state


def random_like(adapter: Path, seed: int, folder: Path) -> None:
    """Write a control to `folder`, unless it exists: random A and B whose product has, module by module, the Frobenius
    norm of the adapter's.
    """
    if not folder.exists():
        _write(random_state(load_file(adapter / WEIGHTS), norms(adapter), seed), adapter, folder)


def negated(adapter: Path, folder: Path) -> None:
    """Write a control to `folder`, unless it exists: the adapter at scale -1, every B with its sign inverted."""
    if not folder.exists():
        state = load_file(adapter / WEIGHTS)
        _write({name: -tensor if ".lora_B." in name else tensor for name, tensor in state.items()}, adapter, folder)


def _write(state: State, adapter: Path, folder: Path) -> None:
    """Write the whole folder or nothing, with the config of `adapter`, even where the process dies meanwhile."""
    staged = folder.with_name(f"{folder.name}.{os.getpid()}.new")
    staged.mkdir(parents=True, exist_ok=True)
    save_file(state, staged / WEIGHTS, metadata={"format": "pt"})
    shutil.copyfile(adapter / CONFIG, staged / CONFIG)
    for name in (WEIGHTS, CONFIG):
        with open(staged / name, "rb") as file:
            os.fsync(file.fileno())
    try:
        os.rename(staged, folder)
    except OSError:
        shutil.rmtree(staged)  # another process wrote the same control meanwhile
