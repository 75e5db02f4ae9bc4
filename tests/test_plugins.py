"""One method, benchmark, engine, remote and verb from a folder outside the package: a file and a row each."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.commands import HANG, environment, resa_hub

ALL_IN_ONE_PROCESS = """
import sys
from resa_hub.cli.main import run

workspace = ["--workspace", sys.argv[1]]
for line in sys.stdin.read().splitlines():
    code = run([*line.split(), *workspace])
    assert code == 0, (line, code)
"""
LINES = """\
hello world --json
extract --source tina-tiny --method half-source --name half --json
recipe list --json
eval half --target tiny-r1 --benchmark digit-sums --engine parrot --samples 2 --arms none --no-greedy --json
push half --to memory:shelf --json
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What each line printed."""
    command = [sys.executable, "-c", ALL_IN_ONE_PROCESS, str(tmp_path_factory.mktemp("plugins"))]
    env = environment(RESA_HUB_PLUGINS="tests.plugins.everything")
    done = subprocess.run(command, input=LINES, env=env, capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0, done.stderr
    decoder, text, found = json.JSONDecoder(), done.stdout.strip(), []
    while text:
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:].lstrip()
    return found


@pytest.mark.slow
def test_a_verb(answers: list[dict]) -> None:
    assert answers[0] == {"greeted": "world"}


@pytest.mark.slow
def test_a_method(answers: list[dict]) -> None:
    assert answers[1]["adapter"] == "half@0.1.0" and answers[1]["kl"] > 0


@pytest.mark.slow
def test_a_benchmark_and_an_engine(answers: list[dict]) -> None:
    """Five of the 25 sums are 4, one is 0."""
    evaluation = answers[3]
    assert (evaluation["benchmark"], evaluation["engine"]["engine"]) == ("digit-sums", "parrot")
    assert {arm["role"]: arm["score"] for arm in evaluation["arms"]} == {"base": 4.0, "adapter": 20.0}


@pytest.mark.slow
def test_a_remote(answers: list[dict]) -> None:
    assert answers[4]["uri"] == "memory:shelf" and answers[4]["changed"]


def test_help_and_errors_name_what_plugins_add() -> None:

    def help_of(*command: str) -> str:
        return resa_hub(*command, "--help", RESA_HUB_PLUGINS="tests.plugins.everything").stdout

    assert "hello" in help_of() and "half-source" in help_of("extract") and "memory:PLACE" in help_of("push")
    assert "half-source" not in resa_hub("extract", "--help").stdout


@pytest.mark.parametrize(
    ("plugin", "message"),
    [("tests.plugins.nowhere", "cannot be imported"), ("tests.plugins.wrong_row", "METHODS['lonely']")],
)
def test_a_broken_plugin_is_named(plugin: str, message: str, tmp_path: Path) -> None:
    done = resa_hub("list", "--workspace", str(tmp_path), RESA_HUB_PLUGINS=plugin)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
