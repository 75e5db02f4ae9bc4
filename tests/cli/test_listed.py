"""`list` and `show`: labels and verdicts, what matters first."""

import json
from pathlib import Path
from typing import Any

import pytest

from resa_hub.adapter.workspace import Workspace
from resa_hub.cli.main import run
from resa_hub.config.refs import AdapterRef
from tests.helpers.adapters import make_adapter
from tests.helpers.commands import least_cpu, out


def document(verdict: str, target: str, created: str, **changes: Any) -> dict[str, Any]:
    return {
        "verdict": verdict,
        "sentence": f"The sentence of {verdict}.",
        "target": target,
        "benchmark": "tiny-chain",
        "split": "test",
        "created": created,
    } | changes


EVALUATIONS = {
    "1.json": document("underpowered", "tiny-r1", "2026-01-01T00:00:00"),
    "2.json": document("harmful", "tiny-r1b", "2026-01-02T00:00:00"),
    "3.json": document("transferred", "tiny-r1", "2026-01-03T00:00:00"),
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_adapter(tmp_path / "adapters", "judged", seed=1, evals=EVALUATIONS)
    make_adapter(tmp_path / "adapters", "plain", seed=2)
    Workspace(tmp_path).store.label(AdapterRef("judged"), "best")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_list_tells_labels_and_the_latest_verdict_of_each_target(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judged, plain = json.loads(out(capsys, "list", "--json"))["adapters"]
    assert judged["labels"] == ["best"] and judged["verdicts"] == ["transferred on tiny-r1", "harmful on tiny-r1b"]
    assert plain["labels"] == plain["verdicts"] == []
    heading, first, *_ = out(capsys, "list").splitlines()
    assert heading.split()[:3] == ["adapter", "labels", "verdicts"]
    assert "best" in first and "transferred on tiny-r1; harmful on tiny-r1b" in first and "underpowered" not in first


def test_a_verdict_of_the_past_still_filters(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert out(capsys, "list", "-q", "--verdict", "underpowered") == "judged@0.1.0\n"


def test_evaluations_that_cannot_be_read_hide_no_adapter(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "adapters/judged/0.1.0/evals/2.json").write_text("{")
    assert run(["list"]) == 0
    printed = capsys.readouterr()
    assert "judged@0.1.0" in printed.out and "plain@0.1.0" in printed.out
    assert "unreadable: the evaluations of judged@0.1.0" in printed.err


def test_show_begins_with_the_verdicts_the_latest_first(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = [line.split("  ")[0] for line in out(capsys, "show", "judged").splitlines()]
    assert labels[:4] == ["verdict"] * 3 + ["adapter"] and labels.index("identity") == 4
    assert "The sentence of transferred." in out(capsys, "show", "judged").splitlines()[0]
    assert out(capsys, "show", "plain").startswith("verdict") and "none yet" in out(capsys, "show", "plain")


def test_only_what_is_damaged_is_called_broken(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "adapters/plain/0.1.0/resa.json").unlink()
    states = {}
    for name in ("judged", "plain", "plain@0.1.0", "jugded", "judged@9.9.9", "a b"):
        code = run(["verify", name, "--json"])
        (result,) = json.loads(capsys.readouterr().out)["results"]
        states[name] = (result["state"], code)
    assert states == {
        "judged": ("ok", 0),
        "plain": ("BROKEN", 3),
        "plain@0.1.0": ("BROKEN", 3),
        "jugded": ("not found", 3),
        "judged@9.9.9": ("not found", 3),
        "a b": ("usage", 2),
    }
    assert run(["verify", "jugded"]) == 3 and "did you mean judged?" in capsys.readouterr().out


@pytest.mark.slow
def test_a_long_list_takes_little_cpu_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(20):
        make_adapter(tmp_path / "adapters", f"demo-{number}", seed=number, evals=EVALUATIONS)
    least = least_cpu("list", "--workspace", str(tmp_path))
    with capsys.disabled():
        print(f"\nCPU seconds: list of 20 adapters {least:.3f}")
    assert least < 0.35


def test_a_log_tells_the_verdicts_of_one_target_apart(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = document("transferred", "tiny-r1", "2026-01-03T00:00:00", benchmark="mine")
    make_adapter(home / "adapters", "twice", seed=3, evals=EVALUATIONS | {"3.json": elsewhere})
    (version,) = json.loads(out(capsys, "log", "twice", "--json"))["versions"]
    assert set(version["verdicts"]) == {
        "underpowered on tiny-r1, tiny-chain (test)",
        "harmful on tiny-r1b",
        "transferred on tiny-r1, mine (test)",
    }
    assert "identity" in out(capsys, "log", "twice").splitlines()[0]
