"""A real registry of containers."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.helpers import needs
from tests.helpers.commands import HANG


@pytest.fixture(name="registry", scope="module")
def container_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real registry daemon on a free port of this machine."""
    program = needs.program("docker-registry")
    folder = tmp_path_factory.mktemp("registry")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "config.yml"
    config.write_text(
        json.dumps(
            {
                "version": 0.1,
                "log": {"level": "error"},
                "storage": {"filesystem": {"rootdirectory": str(folder)}},
                "http": {"addr": f"127.0.0.1:{port}"},
            }
        )
    )
    process = subprocess.Popen([program, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + HANG
        while not _answers(port) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        assert process.poll() is None, f"{program} ended at once"
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    with socket.socket() as line:
        return line.connect_ex(("127.0.0.1", port)) == 0
