"""`python -m tests.helpers.fuzz TARGET [libFuzzer options]`: coverage-guided fuzzing of what reads a stranger's bytes.
Anything but our own errors is a find.
"""

import contextlib
import json
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["resa_hub"]):  # pyright: ignore[reportAttributeAccessIssue]
    from resa_hub.adapter.fit import read_lora
    from resa_hub.adapter.layout import CONFIG, WEIGHTS
    from resa_hub.adapter.manifest import parse_manifest
    from resa_hub.adapter.untrusted import check_config
    from resa_hub.config.refs import DatasetRef, ModelRef, SaeRef
    from resa_hub.config.remotes import RemoteRef, parse_adapter
    from resa_hub.core.errors import HubError
    from resa_hub.core.files import parse_json
    from resa_hub.core.tensors import safetensors_header

FOLDER = Path(tempfile.mkdtemp())
(FOLDER / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4}))


def manifest(data: bytes) -> None:
    parse_manifest(parse_json(data, "manifest"), "manifest")


def config(data: bytes) -> None:
    check_config(parse_json(data, "config"))


def header(data: bytes) -> None:
    """The fuzzer's bytes as the header of a file that is long enough for small tensors."""
    (FOLDER / WEIGHTS).write_bytes(len(data).to_bytes(8, "little") + data + bytes(256))
    safetensors_header(FOLDER / WEIGHTS)
    read_lora(FOLDER)


def reference(data: bytes) -> None:
    text = data.decode(errors="replace")
    for parse in (parse_adapter, ModelRef.parse, RemoteRef.parse, SaeRef.parse, DatasetRef.parse):
        try:
            parse(text)
        except HubError:
            continue


MEMORY = 1_500 << 20
"""Bytes; who asks for more gets a MemoryError, which is a find."""
TARGETS: dict[str, Callable[[bytes], None]] = {
    "manifest": manifest,
    "config": config,
    "header": header,
    "reference": reference,
}


def main() -> None:
    # Not libFuzzer's own limit: it reads the peak that a process inherits from the one that started it.
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    target = TARGETS[sys.argv.pop(1)]

    def one(data: bytes) -> None:
        with contextlib.suppress(HubError):
            target(data)

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
