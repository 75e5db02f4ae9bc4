"""A push to and a pull from a shared folder, beside copying the same bytes and taking their sha256, interleaved in one
run.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path

import msgspec
import numpy
from safetensors.numpy import save_file

from resa_hub.adapter.layout import MANIFEST, WEIGHTS, content_hash, identity_of, scan
from resa_hub.adapter.store import Store
from resa_hub.hub.sharing import pull, push
from tests.helpers.adapters import make_adapter

MEGABYTES, REPEATS = 256, 3


def big(home: Path) -> Path:
    """An adapter whose weights are large; it takes no part in the timing."""
    folder = make_adapter(home / "adapters")
    side = 1 << 10
    half = MEGABYTES << 20 >> 13  # two float32 matrices of half the size each
    parts = {"lora_A": (side, half), "lora_B": (half, side)}
    prefix = "base_model.model.model.layers.1.self_attn.q_proj"
    (folder / WEIGHTS).unlink()
    save_file(
        {f"{prefix}.{name}.weight": numpy.full(shape, 0.5, numpy.float32) for name, shape in parts.items()},
        folder / WEIGHTS,
    )
    config = folder / "adapter_config.json"
    config.write_text(config.read_text().replace('"r": 2', f'"r": {side}'))
    files = identity_of(scan(folder))
    content = json.loads((folder / MANIFEST).read_text())
    content |= {"files": [msgspec.to_builtins(entry) for entry in files], "content_hash": content_hash(files)}
    (folder / MANIFEST).write_text(json.dumps(content))
    return folder


def copy(source: Path, target: Path) -> None:
    """What `cp`, `sync` and `sha256sum` would do: copied, on the disk, and hashed."""
    for path in source.rglob("*"):
        if path.is_file():
            shutil.copyfile(path, target / path.name)
            with open(target / path.name, "rb+") as file:
                os.fsync(file.fileno())
                hashlib.file_digest(file, "sha256")


def main() -> None:
    times: dict[str, list[float]] = {"copy and sha256": [], "push": [], "pull": []}
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        folder = big(home)
        for number in range(REPEATS):
            targets = {name: home / f"{name.split()[0]}-{number}" for name in times}
            targets["copy and sha256"].mkdir()
            steps = {
                "copy and sha256": partial(copy, folder, targets["copy and sha256"]),
                "push": partial(push, "demo", f"folder:{targets['push']}", workspace=home),
                "pull": partial(pull, f"folder:{targets['push']}#demo", workspace=targets["pull"]),
            }
            for name, step in steps.items():
                began = time.perf_counter()
                step()
                times[name].append(time.perf_counter() - began)
            assert Store(targets["pull"] / "adapters").names() == ["demo"]
            for target in targets.values():
                shutil.rmtree(target)
    plain = min(times["copy and sha256"])
    for name, found in times.items():
        print(
            f"  {name:16} {MEGABYTES / min(found):8,.0f} MB/s  {plain / min(found):5.2f} x the speed of copy and sha256"
        )


if __name__ == "__main__":
    main()
