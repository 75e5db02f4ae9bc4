"""How verbs are found and called: headings, examples, options on either side of a verb, completion."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from resa_hub.cli import groups
from resa_hub.cli.main import run
from resa_hub.cli.options import given
from resa_hub.cli.verbs import COMMANDS, Verb
from resa_hub.core import plugins
from tests.helpers.commands import environment, out, resa_hub, stocked

ROWS = [(name, row) for name, row in COMMANDS.items()] + [
    (f"{name} {verb}", row) for name, noun in COMMANDS.items() for verb, row in noun.verbs.items()
]


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[name for name, _ in ROWS])
def test_the_table_says_what_the_docstring_says(name: str, row: Verb) -> None:
    function = plugins.resolve(str(row.place), "resa_hub.cli")
    assert row.verbs or row.about == (function.__doc__ or "").splitlines()[0], "a docstring's first line is the help"
    assert row.example.split()[: len(name.split())] == name.split() or row.verbs or name.endswith((" list", " judge"))


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[name for name, _ in ROWS])
def test_every_example_can_be_typed(name: str, row: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    """All its options exist and take these values."""
    called: list[str] = []
    monkeypatch.setattr(groups.VerbCommand, "invoke", lambda self, ctx: called.append(ctx.command_path))
    assert run(shlex.split(row.example)) == 0
    assert len(called) == 1 and called[0].startswith(f"resa-hub {name.split()[0]}")


def test_help_comes_in_three_spellings(capsys: pytest.CaptureFixture[str]) -> None:
    assert out(capsys, "help") == out(capsys, "--help") == out(capsys)
    assert out(capsys, "help", "push") == out(capsys, "push", "--help") == out(capsys, "push", "-h")
    assert out(capsys, "help", "eval", "plan") == out(capsys, "eval", "plan", "--help")
    assert "Example:\n  resa-hub push " in out(capsys, "help", "push")


@pytest.mark.parametrize("before", [["--workspace", "other", "-q"], ["-q", "--workspace=other"], ["--quiet"]])
def test_options_may_stand_before_the_verb(home: Path, capsys: pytest.CaptureFixture[str], before: list[str]) -> None:
    stocked(home / "other", 1)
    assert out(capsys, *before, "list") == out(capsys, "list", *before)


def test_a_value_is_no_verb(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stocked(home / "list", 1)
    assert out(capsys, "--workspace", "list", "list", "-q") == "demo-0@0.1.0\n"
    assert out(capsys, "-q", "recipe", "list") == out(capsys, "recipe", "-q", "list") == out(capsys, "recipe", "-q")


def test_a_mistyped_verb_or_option_hears_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    for line, near in (
        ("lst", "did you mean list?"),
        ("--json", "`resa-hub --help` lists the verbs"),
        ("eval x --target y --detect 3", "it is an option of `resa-hub eval plan`"),
        ("list --tagret x", "did you mean --target? see `resa-hub list --help`"),
    ):
        assert run(line.split()) == 2
        assert near in capsys.readouterr().err, line


def test_what_was_typed_is_known(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from resa_hub.cli.render import stored

    seen: list[Any] = []
    monkeypatch.setattr(stored, "table", lambda *_: seen.append((given("base"), given("target"), given("workspace"))))
    assert run(["list", "--base", "tiny-r1"]) == 0 and run(["--workspace", ".", "list"]) == 0
    assert seen == [(True, False, False), (False, False, True)]
    assert not given("base")


def completed(home: Path, line: str) -> list[str]:
    """What bash would offer after `line`."""
    done = resa_hub(
        cwd=home,
        _RESA_HUB_COMPLETE="complete_bash",
        COMP_WORDS=line,
        COMP_CWORD=str(len(line.split(" ")) - 1),
        XDG_CONFIG_HOME=str(home / "config"),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("resa-hub sh", ["show"]),
        ("resa-hub show demo-", ["demo-0", "demo-1", "demo-2"]),
        ("resa-hub eval demo-1 --target tiny-r", ["tiny-r1", "tiny-r1b"]),
        ("resa-hub eval demo-1 --benchmark math", ["math500"]),
        ("resa-hub eval pl", ["plan"]),
        ("resa-hub eval demo-", ["demo-0", "demo-1", "demo-2"]),
        ("resa-hub eval --tar", ["--target"]),
        ("resa-hub registry mod", ["models"]),
        ("resa-hub extract --method feat", ["feature-diff"]),
        ("resa-hub recipe show tiny-sae", ["tiny-sae-tuning"]),
        ("resa-hub extract --recipe tiny-sae", ["tiny-sae-tuning"]),
        ("resa-hub extract --source tina-t", ["tina-tiny"]),
        ("resa-hub extract --dry", ["--dry-run"]),
        ("resa-hub list --workspace other --target nothing", []),
    ],
)
def test_names_are_completed(home: Path, line: str, names: list[str]) -> None:
    assert completed(home, line) == names


def test_completion_hears_no_error(home: Path) -> None:
    (home / "registry.yaml").write_text("models: [")
    assert completed(home, "resa-hub attach --target tiny-") == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_completion_is_installed_for_bash(tmp_path: Path) -> None:
    """In a home of its own; what was written is sourced by a real bash and completes."""
    programs = Path(sys.executable).parent
    home = environment(HOME=str(tmp_path), SHELL="/bin/bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    home["PATH"] = f"{programs}{os.pathsep}{home['PATH']}"
    command = [str(programs / "resa-hub"), "--install-completion", "bash"]
    done = subprocess.run(command, env=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    script = next((tmp_path / ".bash_completions").iterdir())
    typed = "COMP_WORDS=(resa-hub sho); COMP_CWORD=1; _resa_hub_completion resa-hub"
    ask = f"source {script}; {typed}; echo ${{COMPREPLY[@]}}"
    offered = subprocess.run(["bash", "-c", ask], env=home, capture_output=True, text=True)
    assert offered.stdout.split() == ["show"], offered.stderr


def test_headings_are_bold_at_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = "Usage: resa-hub list\n\n  About: this\n\nOptions:\n  --x  y:\n"
    assert re.findall(r"\033\[1m(.*?)\033", groups.emphasized(text)) == ["Usage:", "Options:"]
    assert "\033" not in resa_hub("--help").stdout
    monkeypatch.setenv("NO_COLOR", "1")
    assert groups.emphasized(text) == text
