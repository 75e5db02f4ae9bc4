"""Control adapters made on the fly: random ones of equal norm, and the adapter with its sign turned."""

import os
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from ...adapter.layout import CONFIG, WEIGHTS
from .lora import State, norms, random_state


def random_like(adapter: Path, seed: int, folder: Path) -> None:
    """A control: random A and B whose product has, module by module, the Frobenius norm of the adapter's."""
    if folder.exists():
        return
    _write(random_state(load_file(adapter / WEIGHTS), norms(adapter), seed), adapter, folder)


def negated(adapter: Path, folder: Path) -> None:
    """A control: the adapter at scale -1, every B with its sign turned."""
    if not folder.exists():
        _write(
            {name: -tensor if ".lora_B." in name else tensor for name, tensor in load_file(adapter / WEIGHTS).items()},
            adapter,
            folder,
        )


def _write(state: State, adapter: Path, folder: Path) -> None:
    """The whole folder or nothing, whatever dies meanwhile."""
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
        shutil.rmtree(staged)  # another process made the same control meanwhile
