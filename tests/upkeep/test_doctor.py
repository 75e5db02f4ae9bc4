"""`doctor`: what it finds, what it says to do, and that it tells no secret."""

import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from resa_hub.adapter.layout import MANIFEST
from resa_hub.upkeep.access import without_password
from resa_hub.upkeep.packages import EXTRAS
from tests.helpers.adapters import make_adapter
from tests.helpers.commands import ROOT, environment, least_cpu
from tests.helpers.commands import resa_hub as command
from tests.helpers.terminal import at_terminal

FOR_WORK_ON_US = {"dev", "fuzz"}
SECRET = "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"
PIECE = 5
"""Characters of the secret that may stand nowhere together."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    make_adapter(tmp_path / "home/adapters", "demo")
    return tmp_path / "home"


def examined(home: Path, *arguments: str, **changes: str | None) -> tuple[int, dict[str, dict[str, Any]]]:
    """(exit code, name -> check) of one run that asks nothing of the network."""
    user: dict[str, Any] = {
        "HF_HOME": str(home / "hf"),
        "XDG_CACHE_HOME": str(home / "user"),
        "HF_ENDPOINT": None,
        "HF_TOKEN": None,
    }
    user |= changes
    done = command("doctor", "--json", *(arguments or ("--offline",)), cwd=home, **user)
    assert done.stdout, done.stderr
    sections = json.loads(done.stdout)["sections"]
    return done.returncode, {check["name"]: check for checks in sections.values() for check in checks}


def test_a_sound_machine_is_ready(home: Path) -> None:
    code, checks = examined(home)
    assert code == 0 and not [check for check in checks.values() if check["state"] == "problem"]
    assert checks["Python"]["value"] == sys.version.split()[0] and checks["torch"]["value"].startswith("2.")
    assert checks["adapters"]["value"] == "1" and "nearest folder" in checks["folder"]["value"]
    assert checks["memory"]["bytes"] > 0 and checks["disk, workspace"]["bytes"] > 0
    assert "--offline" in checks["endpoint"]["value"]
    done = command("doctor", "--offline", cwd=home)
    assert done.returncode == 0 and "Versions" in done.stdout and "Ready" in done.stdout
    shown = re.sub("\033\\[[0-9;]*m", "", at_terminal("doctor", "--offline", answer="", cwd=home).shown)
    assert "Ready" in shown and max(map(len, shown.splitlines())) <= 100


def test_it_loads_nothing_heavy_and_answers_at_once(home: Path) -> None:
    code = "import sys; from resa_hub.cli.main import run; run(sys.argv[1:]); "
    code += "print([name for name in ('torch', 'transformers', 'numpy', 'datasets', 'rich') if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor", "--offline", "-q"],
        cwd=home,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.stdout.endswith("[]\n"), done.stdout + done.stderr
    assert least_cpu("doctor", "--offline", "--workspace", str(home)) < 1.0


def pieces(text: str) -> list[str]:
    return [SECRET[i : i + PIECE] for i in range(len(SECRET) - PIECE + 1) if SECRET[i : i + PIECE] in text]


@pytest.mark.parametrize("place", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "a file"])
@pytest.mark.parametrize("form", [[], ["--json"], ["-q"], ["--debug"]], ids=" ".join)
def test_a_token_is_told_of_and_never_shown(home: Path, place: str, form: list[str]) -> None:
    changes: dict[str, Any] = {"HF_HOME": str(home / "hf"), "HF_TOKEN": None, "HUGGING_FACE_HUB_TOKEN": None}
    if place == "a file":
        (home / "hf").mkdir()
        (home / "hf/token").write_text(f"{SECRET}\n")
    else:
        changes[place] = SECRET
    done = command("doctor", "--offline", *form, cwd=home, **changes)
    said = done.stdout + done.stderr
    assert done.returncode == 0 and pieces(said) == []
    if "-q" not in form:
        where = home / "hf/token" if place == "a file" else place
        assert f"present,from{where}" in "".join(said.split())  # wherever lines are wrapped
    assert pieces(f"a text that shows {SECRET[3:9]}")  # the check can fail


def test_no_token_is_no_fault(home: Path) -> None:
    _, checks = examined(home)
    assert checks["token"]["state"] == "ok" and checks["token"]["step"] == "hf auth login"


@pytest.fixture
def hub() -> Iterator[tuple[str, list[str]]]:
    """(address of a server that answers, the headers that it was sent)."""
    heads: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            heads.append(str(self.headers))
            self.send_response(404 if self.path == "/missing" else 503 if self.path == "/down" else 200)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", heads
    server.shutdown()


def test_the_endpoint_is_asked_without_the_token(home: Path, hub: tuple[str, list[str]]) -> None:
    address, heads = hub
    for path, state in (("", "ok"), ("/missing", "ok"), ("/down", "warning")):
        code, checks = examined(home, "--workspace", str(home), HF_ENDPOINT=address + path, HF_TOKEN=SECRET)
        assert (code, checks["endpoint"]["state"]) == (0, state), checks["endpoint"]
    assert "503" in checks["endpoint"]["value"] and len(heads) == 3 and pieces("".join(heads)) == []


@pytest.mark.parametrize(
    ("endpoint", "code", "words"),
    [
        ("http://127.0.0.1:9", 0, "cannot be reached"),
        ("hub.example.org", 1, "is not the address"),
        ("http://hub.invalid", 1, "not sent over plain http"),
    ],
)
def test_an_endpoint_that_does_not_work(home: Path, endpoint: str, code: int, words: str) -> None:
    exit_code, checks = examined(home, "--workspace", str(home), HF_ENDPOINT=endpoint, HF_TOKEN=SECRET)
    assert exit_code == code and words in checks["endpoint"]["value"] and checks["endpoint"]["step"]


def test_offline_nothing_is_asked(home: Path, hub: tuple[str, list[str]]) -> None:
    address, heads = hub
    _, checks = examined(home, "--workspace", str(home), HF_ENDPOINT=address, HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE" in checks["endpoint"]["value"] and heads == []


def test_a_password_in_an_address_is_not_shown(home: Path) -> None:
    code, checks = examined(
        home, HF_ENDPOINT=f"https://me:{SECRET}@hub.example.org/x", HTTPS_PROXY=f"http://u:{SECRET}@p:1"
    )
    assert code == 0 and pieces(json.dumps(checks)) == []
    assert checks["HTTPS_PROXY"]["value"].startswith("http://p:1") and "https://hub.example.org/x" in str(
        checks["endpoint"]
    )
    assert without_password("a:b@c:1/@d") == "c:1/@d"


def test_a_broken_registry_is_a_problem_with_its_line(home: Path) -> None:
    (home / "registry.yaml").write_text("models:\n  a: {id: x/y}\n  b: {id: [}\n")
    code, checks = examined(home)
    assert code == 1 and "line 3" in checks["registry, workspace"]["value"] and checks["registry, workspace"]["step"]
    assert checks["registry, built-in"]["state"] == "ok"
    said = command("doctor", "--offline", cwd=home)
    assert "PROBLEM" in said.stdout and "Not usable as it is: 1 problem (registry, workspace)" in said.stdout
    assert command("doctor", "--offline", "-q", cwd=home).stdout.startswith("problem: registry, workspace")


def test_an_adapter_that_cannot_be_read_is_a_problem(home: Path) -> None:
    (home / "adapters/demo/0.1.0" / MANIFEST).write_text("{")
    code, checks = examined(home)
    assert code == 1 and "demo@0.1.0" in checks["unreadable"]["value"] and "resa-hub rm" in checks["unreadable"]["step"]


def test_remotes_are_looked_at(home: Path) -> None:
    for setting, state in (
        ("folder:./nowhere", "warning"),
        ("folder:.", "ok"),
        ("hf:you/name", "ok"),
        ("ftp:x", "problem"),
    ):
        (home / "registry.yaml").write_text(f"settings: {{remote: '{setting}'}}\n")
        code, checks = examined(home)
        assert checks["remote"]["state"] == state and code == (state == "problem"), checks["remote"]


def test_what_is_kept_is_measured_and_old_runs_are_a_warning(home: Path) -> None:
    work = home / ".resa-hub/work/demo-0123"
    work.mkdir(parents=True)
    (work / "trainer.pt").write_bytes(b"0" * 1000)
    _, checks = examined(home)
    assert checks["runs"]["bytes"] == 1000 and checks["runs"]["state"] == "ok"
    long_ago = time.time() - 40 * 86_400
    os.utime(work / "trainer.pt", (long_ago, long_ago))
    code, checks = examined(home)
    assert code == 0 and checks["runs"]["state"] == "warning"
    assert "cache free runs --older-than 30d" in checks["runs"]["step"]


def test_variables_that_are_set_are_named(home: Path) -> None:
    _, checks = examined(
        home, RESA_HUB_STATE_SECONDS="5", RESA_HUB_PLUGINS="tests.plugins.everything", RESA_HUB_WORKSPCE="x"
    )
    assert checks["RESA_HUB_STATE_SECONDS"]["value"].startswith("5:")
    assert "1 of COMMANDS" in checks["plugins"]["value"]
    assert (
        checks["RESA_HUB_WORKSPCE"]["state"] == "warning"
        and "RESA_HUB_WORKSPACE" in checks["RESA_HUB_WORKSPCE"]["step"]
    )


def metadata(folder: Path, package: str, version: str) -> None:
    """Metadata that stand before the installed package's."""
    info = folder / f"{package.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")


def test_a_package_out_of_its_range_is_a_warning_with_the_line_that_mends_it(home: Path, tmp_path: Path) -> None:
    metadata(tmp_path / "early", "peft", "0.1")
    metadata(tmp_path / "early", "ray", "1.0")
    code, checks = examined(home, PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path / 'early'}")
    assert code == 0 and checks["peft"]["state"] == "warning" and "0.1" in checks["peft"]["value"]
    assert "install 'peft" in checks["peft"]["step"]
    assert "not installed" in checks["ray"]["value"] and checks["ray"]["step"].endswith("install 'ray>=2.60'")


def test_a_package_that_cannot_be_imported_hides_no_other_section(home: Path, tmp_path: Path) -> None:
    (tmp_path / "early").mkdir()
    (tmp_path / "early/huggingface_hub.py").write_text("raise ImportError('damaged', name='huggingface_hub')")
    code, checks = examined(home, PYTHONPATH=f"{tmp_path / 'early'}{os.pathsep}{ROOT}")
    assert code == 1 and checks["huggingface_hub"]["state"] == "problem" and checks["adapters"]["value"] == "1"


def test_every_extra_is_told_by_packages_that_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert EXTRAS.keys() <= extras.keys() and extras.keys() - EXTRAS.keys() >= FOR_WORK_ON_US


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("NVIDIA H100 80GB HBM3, 80000, 81559, 9.0", "NVIDIA H100 80GB HBM3, 78.1 of 79.6 GiB free, bf16"),
        ("Tesla T4, 15000, 15360, 7.5", "no bf16"),
        ("NVIDIA A100 MIG 1g.5gb, [N/A], [N/A], 8.0", "NVIDIA A100 MIG 1g.5gb"),
    ],
)
def test_a_gpu_is_described(home: Path, tmp_path: Path, line: str, words: str) -> None:
    """A stand-in for nvidia-smi, which says what the real one says for this query."""
    tool = tmp_path / "bin/nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\necho '{line}'\n")
    tool.chmod(0o755)
    _, checks = examined(home, PATH=f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    assert words in checks["GPU"]["value"]
    tool.write_text("#!/bin/sh\nexit 9\n")
    _, checks = examined(home, PATH=f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    assert checks["GPU"]["state"] == "warning" and "does not answer" in checks["GPU"]["value"]


def test_a_folder_that_can_only_be_read_is_a_warning(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The superuser may write everywhere, so the answer of the system is put in its place."""
    from resa_hub.adapter.workspace import Workspace
    from resa_hub.upkeep.workspace_checks import check_workspace

    monkeypatch.setattr("os.access", lambda path, mode: False)
    checks = {check.name: check for check in check_workspace(Workspace.find(home))}
    assert checks["writing"].state == "warning" and checks["writing"].step
