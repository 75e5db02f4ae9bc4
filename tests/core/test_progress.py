"""Progress: one line a stage in a log, a bar at a terminal, a bar of its own in a notebook."""

import re
import sys
import textwrap
import threading
import time
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from resa_hub.core import progress as module
from resa_hub.core.progress import Progress, waiting
from tests.helpers.commands import ROOT
from tests.helpers.terminal import shown_at, without_codes


def stage(count: int, unit: str = "steps", seconds: float = 0.0, progress: Progress | None = None) -> Progress:
    progress = progress or Progress()
    with progress.stage("train <SAE>", count, unit) as advance:
        for _ in range(count):
            time.sleep(seconds)
            advance(1)
    return progress


def test_one_line_a_stage_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    progress = stage(20, seconds=0.005)
    printed = capsys.readouterr()
    assert not printed.out and printed.err.startswith("  train <SAE>: 20 steps in 0.1")
    assert printed.err.endswith("steps/s)\n") and len(printed.err.splitlines()) == 1
    assert progress.seconds["train <SAE>"] >= 0.1


@pytest.mark.parametrize(
    ("done", "seconds", "told"),
    [
        (4, 48, "4 evaluations in 48 s (12 s/evaluation)"),
        (1, 48, "1 evaluation in 48 s"),
        (0, 0.0, "0 evaluations in 0 s"),
        (12_000, 3_000, "12,000 evaluations in 50 min (4.0 evaluations/s)"),
        (3, 9_000, "3 evaluations in 2.5 h (50 min/evaluation)"),
    ],
)
def test_no_rate_is_told_as_nought(done: int, seconds: float, told: str) -> None:
    assert module._finished(done, seconds, "evaluations") == told


def test_quiet_progress_says_nothing_and_counts_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    progress = stage(3, progress=Progress(quiet=True))
    progress.say("a word")
    assert capsys.readouterr() == ("", "") and list(progress.seconds) == ["train <SAE>"]


def test_a_bar_with_rate_and_time_left_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = shown_at(100, lambda: stage(12, seconds=0.05), monkeypatch)
    assert "━" in shown and "steps/s" in shown and "left" in shown and "/12" in shown
    assert without_codes(shown).splitlines()[-1].startswith("  train <SAE>: 12 steps in")
    for line in without_codes(shown).replace("\r", "\n").splitlines():
        assert len(line) <= 100


def test_a_log_hears_of_a_long_stage_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(module, "FIRST_WORD", 0.05)
    stage(10, seconds=0.05)
    *lines, last = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 4 and last.startswith("  train <SAE>: 10 steps in")  # each pause is twice the last one
    assert all(line.startswith("  train <SAE>: ") and " of 10 steps in " in line for line in lines)
    assert lines[-1].endswith(" left")


def test_slow_steps_are_told_in_seconds_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = without_codes(shown_at(100, lambda: stage(2, seconds=1.1), monkeypatch))
    assert "1.1 s/step" in shown and "0 steps/s" not in shown


def wait(seconds: float, progress: Progress | None = None) -> None:
    with (progress or Progress()).speaking(), waiting("loading base", "3.6 GB"):
        time.sleep(seconds)


def test_a_log_hears_what_is_waited_for_how_big_it_is_and_how_long_it_took(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "FIRST_WORD", 0.05)
    wait(0.2)
    *lines, last = capsys.readouterr().err.splitlines()
    assert lines and all(re.fullmatch(r"  loading base \(3.6 GB\): [\d.]+ s so far", line) for line in lines)
    assert re.fullmatch(r"  loading base \(3.6 GB\): [\d.]+ s", last)


def test_nothing_is_told_of_a_short_wait_nor_by_quiet_progress(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wait(0.01)
    monkeypatch.setattr(module, "FIRST_WORD", 0.01)
    wait(0.1, Progress(quiet=True))
    assert capsys.readouterr() == ("", "")


def test_a_wait_that_fails_ends_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WORD", 0.01)
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), waiting("loading"):
        _ = 1 / 0
    assert threading.active_count() == before


def test_a_terminal_shows_what_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SPINNER_AFTER", 0.01)
    shown = without_codes(shown_at(100, lambda: wait(0.5), monkeypatch))
    assert "loading base (3.6 GB)" in shown and "0:00:0" in shown
    monkeypatch.setattr(module, "SPINNER_AFTER", 5.0)
    assert "loading" not in shown_at(100, lambda: wait(0.01), monkeypatch)


def test_a_wait_within_a_stage_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SPINNER_AFTER", 0.01)

    def work() -> None:
        with Progress().stage("eval", 2, "samples") as advance:
            wait(0.4)
            advance(2)

    shown = without_codes(shown_at(100, work, monkeypatch))
    assert "loading base (3.6 GB)" in shown and shown.splitlines()[-1].startswith("  eval: 2 samples in")


@pytest.fixture
def displayed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a notebook displays and displays anew; a stand-in for IPython, which is no dependency of the tests."""
    pictures: list[str] = []
    update = SimpleNamespace(update=pictures.append)

    def display(picture: str, display_id: bool) -> Any:
        pictures.append(picture)
        return update

    kernel, shown = ModuleType("ipykernel.zmqshell"), ModuleType("IPython.display")
    kernel.ZMQInteractiveShell = SimpleNamespace(initialized=lambda: True)  # pyright: ignore
    shown.HTML, shown.display = str, display  # pyright: ignore
    for name, stand_in in {kernel.__name__: kernel, "IPython": ModuleType("IPython"), shown.__name__: shown}.items():
        monkeypatch.setitem(sys.modules, name, stand_in)
    monkeypatch.setattr(module, "REDRAWN", 0.0)
    return pictures


def test_a_notebook_displays_one_bar(displayed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    stage(4, seconds=0.01)
    first, *_, third, last, gone = displayed
    assert "train &lt;SAE&gt;" in first and 'value="0" max="4"' in first and "<SAE>" not in first
    assert "3/4 steps" in third and "steps/s" in third and "left" in third and "left" not in last and gone == ""
    printed = capsys.readouterr()
    assert printed.out.startswith("  train <SAE>: 4 steps in") and not printed.err


def test_a_bar_goes_when_a_stage_fails(displayed: list[str]) -> None:
    with pytest.raises(ZeroDivisionError), Progress().stage("stage", 2, "steps"):
        _ = 1 / 0
    assert displayed[-1] == ""


@pytest.mark.slow
def test_a_real_kernel_shows_it() -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    code = f"""
    import sys, time
    sys.path.insert(0, {str(ROOT)!r})
    from resa_hub.core.progress import Progress
    with Progress().stage("train", 8, "steps") as advance:
        for _ in range(8):
            time.sleep(0.1)
            advance(1)
    """
    seen: list[str] = []
    cell = nbformat.v4.new_code_cell(textwrap.dedent(code))

    class Client(nbclient.NotebookClient):
        def process_message(self, msg: Any, *rest: Any) -> Any:
            seen.append(str(msg["content"].get("data", {}).get("text/html", "")))
            return super().process_message(msg, *rest)

    Client(nbformat.v4.new_notebook(cells=[cell]), kernel_name="python3").execute()
    assert any('max="8"' in picture and "left" in picture for picture in seen)
    displayed, told = cell["outputs"]
    assert displayed["data"]["text/html"] == "" and told["name"] == "stdout" and "8 steps in" in told["text"]
