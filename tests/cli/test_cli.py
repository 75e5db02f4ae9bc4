"""What the command line prints: help, data for people, programs and scripts, and where it looks for a workspace."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from resa_hub.adapter.layout import MANIFEST, WEIGHTS
from resa_hub.cli.main import run
from resa_hub.cli.verbs import COMMANDS, MAKE
from tests.helpers.adapters import names_in
from tests.helpers.commands import HANG, RUN, environment, resa_hub, stocked

GOLDEN = Path(__file__).parents[1] / "golden" / "help.txt"
QUICK = [
    part
    for setting in (
        "sae.steps=5",
        "sae.latents=256",
        "training.epochs=1",
        "trigger.rows=64",
        "elicit.rows=64",
    )
    for part in ("--set", setting)
]


def out(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The standard output of a command that succeeds."""
    code, printed = run(list(arguments)), capsys.readouterr()
    assert code == 0, printed.err
    return printed.out


def every_command() -> list[list[str]]:
    """The words of each, a noun's verbs one by one."""
    return [[name, *verb] for name, row in COMMANDS.items() for verb in ([[verb] for verb in row.verbs] or [[]])]


def test_help_of_every_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Golden; `UPDATE_GOLDEN=1 pytest tests/cli/test_cli.py` writes it anew."""
    monkeypatch.setenv("COLUMNS", "100")
    text = "".join(
        f"$ resa-hub {' '.join(arguments)}\n{out(capsys, *arguments)}\n"
        for arguments in (["--help"], *([*name, "--help"] for name in every_command()))
    )
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_help_names_every_command_and_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    verbs = out(capsys).partition(f"{MAKE}:\n")[2].partition("\n`resa-hub help VERB`")[0]
    assert re.findall(r"^  (\S+)", verbs, re.MULTILINE) == list(COMMANDS)
    for name in every_command():
        text = out(capsys, *name, "-h")
        assert (
            "--workspace" in text
            and "--debug" in text
            and (name == ["demo"] or ("--json" in text and "-q, --quiet" in text))
        ), name


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert out(capsys, "--version") == f"resa-hub {version('resa-hub')}\n"


def documents(home: Path) -> dict[str, list[str]]:
    """A command line of every light command, with what it needs."""
    remote = f"folder:{home}/remote"
    return {
        "extract": ["extract", "--source", "tina-still", "--dry-run"],
        "attach": ["attach", "demo-1", "--target", "r1-distill-1.5b", "--dry-run"],
        "list": ["list"],
        "show": ["show", "demo-1"],
        "verify": ["verify"],
        "registry": ["registry"],
        "registry kind": ["registry", "models"],
        "registry entry": ["registry", "recipe:resa-still-v1"],
        "push": ["push", "demo-1", "--to", remote],
        "pull": ["pull", f"{remote}#demo-1", "--workspace", f"{home}/friend"],
    }


def test_json_is_one_document_on_stdout(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    got: dict[str, Any] = {}
    for name, arguments in documents(home).items():
        assert run([*arguments, "--json"]) == 0
        printed = capsys.readouterr()
        got[name] = json.loads(printed.out)
        assert printed.err == "", name
    assert got["extract"]["name"] == "resa-still-v1" and got["extract"]["recipe"]["source"] == "tina-still"
    assert got["attach"]["target"] == "r1-distill-1.5b = deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"
    assert got["attach"]["adapter"] == "demo-1: named" and got["attach"]["fit"] is None
    assert got["attach"]["checked_when_fetched"] == ["whether it fits r1-distill-1.5b"]
    assert [row["adapter"] for row in got["list"]["adapters"]] == ["demo-0@0.1.0", "demo-1@0.1.0", "demo-2@0.1.0"]
    assert got["show"]["name"] == "demo-1" and got["show"]["content_hash"] == got["list"]["adapters"][1]["content_hash"]
    assert [row["ok"] for row in got["verify"]["results"]] == [True] * 3
    assert got["registry"]["models"]["tina-tiny"]["layer"] == "built-in" and list(got["registry kind"]) == ["models"]
    assert got["registry entry"]["hookpoint"] == "layers.12"
    assert got["push"]["changed"] and got["pull"]["new"] and got["pull"]["content_hash"] == got["show"]["content_hash"]


def test_quiet_prints_the_essential_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = {name: out(capsys, *arguments, "-q").splitlines() for name, arguments in documents(home).items()}
    assert lines["extract"] == ["resa-still-v1"] and lines["attach"] == ["demo-1"]
    assert lines["list"] == ["demo-0@0.1.0", "demo-1@0.1.0", "demo-2@0.1.0"]
    assert len(lines["show"]) == 1 and lines["show"][0].startswith("sha256:")
    assert lines["verify"] == ["3 ok"] and "model:tina-tiny" in lines["registry"]
    assert lines["push"] == [f"folder:{home}/remote#demo-1@0.1.0"] and lines["pull"] == ["demo-1@0.1.0"]


def test_tables_for_people(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [line.split() for line in out(capsys, "list").splitlines()]
    assert rows[0][:5] == ["adapter", "labels", "verdicts", "method", "base"] and [row[0] for row in rows[1:]] == [
        "demo-0@0.1.0",
        "demo-1@0.1.0",
        "demo-2@0.1.0",
    ]
    shown = out(capsys, "show", "demo-1")
    assert "logit-distill at layers.1" in shown and "none yet: resa-hub eval demo-1 --target TARGET" in shown
    assert "tina-tiny" in out(capsys, "registry", "models")


def test_empty_store_names_the_next_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "--workspace", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert printed.out == "" and "resa-hub extract" in printed.err and "resa-hub pull" in printed.err


def test_extract_dry_run_names_what_it_would_fetch_and_fetches_nothing(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    done = resa_hub(
        "extract",
        "--source",
        "tina-still",
        "--dry-run",
        cwd=tmp_path,
        HF_ENDPOINT="http://127.0.0.1:9",
        HF_HOME=str(cache),
    )
    assert done.returncode == 0, done.stderr
    for text in (
        "resa-still-v1",
        "Tina-Yi/R1-Distill-Qwen-1.5B-STILL",
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",
        "RUC-AIBOX/STILL-3-Preview-RL-Data",
    ):
        assert text in done.stdout
    assert "layers.12" in done.stdout and "65,536 latents, k = 32" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_push_and_pull_through_the_workspaces_remote(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "registry.yaml").write_text("settings: {remote: 'folder:shared'}\n")
    assert "pushed to folder:shared#demo-2@0.1.0" in out(capsys, "push", "demo-2")
    assert "already at folder:shared#demo-2@0.1.0" in out(capsys, "push", "demo-2")
    out(capsys, "pull", "folder:shared#demo-2", "--workspace", "friend")
    assert names_in(home / "friend") == ["demo-2"]
    assert out(capsys, "list", "-q", "--workspace", "friend") == "demo-2@0.1.0\n"


def test_list_takes_filters(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    everything = out(capsys, "list", "-q")
    found = json.loads(out(capsys, "list", "--json"))["adapters"][0]
    assert out(capsys, "list", "-q", "--base", found["base"], "--method", found["method"]) == everything
    for wrong in (("--base", "nobody/nothing"), ("--method", "sft"), ("--verdict", "transferred")):
        assert json.loads(out(capsys, "list", "--json", *wrong))["adapters"] == []


def test_verify_names_the_file_that_was_changed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = home / "adapters/demo-1/0.1.0" / WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert run(["verify"]) == 5
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "BROKEN" in rows["demo-1@0.1.0"] and WEIGHTS in rows["demo-1@0.1.0"] and " ok " in rows["demo-0@0.1.0"]
    assert run(["verify", "demo-0"]) == 0 and run(["verify", "demo-1"]) == 5
    capsys.readouterr()
    assert run(["push", "demo-1", "--to", "folder:shared"]) == 5 and not (home / "shared" / "refs").exists()
    assert WEIGHTS in capsys.readouterr().err


def test_a_strangers_manifest_plays_no_tricks_at_the_terminal(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences, C1 controls, directions and new lines of a manifest or verdict are never printed raw."""
    evil = "a\x1b[2Jb\u202ec\x9bd\nfake@9.9.9  ok\re\u2066"
    folder = home / "adapters/demo-1/0.1.0"
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["base"]["id"], manifest["source"], manifest["run"]["hardware"] = evil, evil, evil
    (folder / MANIFEST).write_text(json.dumps(manifest))
    (folder / "evals").mkdir()
    verdict = {"verdict": evil, "sentence": evil, "target": evil, "benchmark": "b", "split": "test"}
    (folder / "evals/tiny-r1.json").write_text(json.dumps(verdict))
    (folder / "evals/other.json").write_text('{"verdict": "a file that holds no more"}')
    for arguments in (["list"], ["show", "demo-1"], ["show", "demo-1", "--json"], ["list", "--json"], ["list", "-q"]):
        text = out(capsys, *arguments)
        assert all(c.isprintable() or c == "\n" for c in text), arguments
        assert not any(line.startswith("fake@9.9.9") for line in text.splitlines()), arguments
    assert json.loads(out(capsys, "show", "demo-1", "--json"))["base"]["id"] == evil


def test_one_broken_adapter_hides_no_other(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "adapters/demo-1/0.1.0" / MANIFEST).write_text("{")
    assert run(["list"]) == 0
    printed = capsys.readouterr()
    assert (
        "demo-0@0.1.0" in printed.out
        and "demo-1@0.1.0" not in printed.out
        and "unreadable: demo-1@0.1.0" in printed.err
    )
    assert json.loads(out(capsys, "list", "--json"))["unreadable"][0]["adapter"] == "demo-1@0.1.0"


def test_workspace_is_asked_then_named_then_the_nearest_parent(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = home / "a/b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert out(capsys, "list", "-q").splitlines() == ["demo-0@0.1.0", "demo-1@0.1.0", "demo-2@0.1.0"]
    other, third = stocked(home / "other", 1), stocked(home / "third", 2)
    monkeypatch.setenv("RESA_HUB_WORKSPACE", str(other))
    assert out(capsys, "list", "-q").splitlines() == ["demo-0@0.1.0"]
    assert out(capsys, "list", "-q", "--workspace", str(third)).splitlines() == ["demo-0@0.1.0", "demo-1@0.1.0"]


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("arguments", ["registry --json", "list"])
def test_reader_that_leaves_early_hears_no_complaint(home: Path, arguments: str, buffered: bool) -> None:
    """Found out while printing, or only when the buffer is written at the end."""
    child = [sys.executable, "-c", RUN, *arguments.split()]
    process = subprocess.Popen(
        child,
        cwd=home,
        env=environment(PYTHONUNBUFFERED=None if buffered else "1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stderr
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(HANG) == 1
    assert "Traceback" not in errors and "Broken" not in errors and "error" not in errors


@pytest.mark.slow
def test_interrupted_extraction_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C in the middle of stage I: 130, two lines, an empty store; the same command then runs to its end."""
    arguments = ["extract", "--source", "tina-tiny", "--name", "mine", "--workspace", str(tmp_path)]
    child = [sys.executable, "-c", RUN, *arguments, "--set", "sae.steps=100000"]
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None  # noqa: E731  (a shell's background jobs are started deaf to it)
    with subprocess.Popen(
        child, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heard
    ) as process:
        try:
            staging, until = tmp_path / "adapters/.staging", time.monotonic() + HANG
            while not (staging.is_dir() and list(staging.iterdir())) and time.monotonic() < until:
                time.sleep(0.05)
            time.sleep(2)
            for _ in range(10):  # a library that is being imported may swallow the first one
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(20)
                    break
                except subprocess.TimeoutExpired:
                    continue
            printed, errors = process.communicate(timeout=HANG)
        finally:
            process.kill()
    assert process.returncode == 130, errors
    assert errors.splitlines()[-2:] == ["error: interrupted", "  run the same command again: what was finished is kept"]
    assert printed == "" and "Traceback" not in errors
    assert names_in(tmp_path) == []
    again = resa_hub(*arguments, *QUICK, "-q")
    assert (again.returncode, again.stdout) == (0, "mine@0.1.0\n"), again.stderr
    assert names_in(tmp_path) == ["mine"]
