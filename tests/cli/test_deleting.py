"""`rm`, `gc`, `tag --clear`: what goes is listed first, and a person is asked."""

import json
from pathlib import Path

import pytest

from resa_hub.adapter.blobs import FOLDER
from resa_hub.adapter.layout import CONFIG, WEIGHTS
from resa_hub.adapter.store import LABELS
from resa_hub.adapter.verify import verify_folder
from resa_hub.adapter.workspace import Workspace
from resa_hub.cli.main import run
from resa_hub.config.refs import AdapterRef
from resa_hub.upkeep.kept import measure
from tests.helpers.adapters import make_adapter
from tests.helpers.commands import out
from tests.helpers.terminal import at_terminal


def stocked(folder: Path) -> Workspace:
    make_adapter(folder / "adapters", "demo", "0.1.0", seed=1)
    make_adapter(folder / "adapters", "demo", "0.2.0", seed=2)
    return Workspace.find(folder)


def test_rm_tells_what_goes_and_frees_what_no_other_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home, there = stocked(tmp_path), ["--workspace", str(tmp_path)]
    document = {"verdict": "transferred", "sentence": "s", "target": "tiny-r1", "benchmark": "b", "split": "test"}
    make_adapter(home.store.root, "twin", seed=1, evals={"tiny-r1.json": document})
    home.store.label(AdapterRef("twin"), "best")
    before, whole = measure(home.store.root)[0], measure(home.store.root / "twin/0.1.0")[0]

    told = json.loads(out(capsys, "rm", "twin", "--dry-run", "--json", *there))
    (going,) = told["would_delete"]
    assert going["what"] == "twin@0.1.0" and "labels best" in going["about"] and "1 verdict" in going["about"]
    assert home.store.names() == ["demo", "twin"] and told["dry_run"]
    assert "twin@0.1.0" in out(capsys, "rm", "twin", "--dry-run", *there)

    shared = sum((home.store.root / "twin/0.1.0" / name).stat().st_size for name in (WEIGHTS, CONFIG))
    assert going["bytes"] == whole - shared  # demo@0.1.0 has the same weights: they stay
    labels = (home.store.root / "twin" / LABELS).stat().st_size  # it goes with the last version
    both = json.loads(out(capsys, "rm", "twin", "demo@0.1.0", "--dry-run", "--json", *there))
    assert run(["rm", "twin", "demo@0.1.0", *there]) == 2
    assert "twin@0.1.0" in capsys.readouterr().out  # listed, though nobody could say yes
    assert json.loads(out(capsys, "rm", "twin", "demo@0.1.0", "-y", "--json", *there))["removed"] == [
        "twin@0.1.0",
        "demo@0.1.0",
    ]
    assert before - measure(home.store.root)[0] == both["bytes"] + labels
    assert verify_folder(home.store.root / "demo/0.2.0") and home.store.remains() == []


def test_gc_lists_what_goes_and_asks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home, there = stocked(tmp_path), ["--workspace", str(tmp_path)]
    assert "nothing to free" in out(capsys, "gc", *there)
    home.store.remove(AdapterRef("demo", "0.1.0"))
    told = json.loads(out(capsys, "gc", "--dry-run", "--json", *there))
    assert told["bytes"] > 0 and all(FOLDER in item["what"] for item in told["would_delete"])
    assert run(["gc", *there]) == 2 and "add -y" in capsys.readouterr().err
    asked = at_terminal("gc", *there, answer="n")
    assert asked.code == 2 and FOLDER in asked.shown and home.store.remains()
    assert json.loads(out(capsys, "gc", "-y", "--json", *there))["freed"] == told["bytes"]
    assert home.store.remains() == [] and home.store.versions("demo") == ["0.2.0"]


def test_labels_are_taken_away_after_a_question(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home, there = stocked(tmp_path), ["--workspace", str(tmp_path)]
    home.store.label(AdapterRef("demo"), "best")
    assert "demo@best" in out(capsys, "tag", "demo", "--clear", "--dry-run", *there)
    assert run(["tag", "demo", "--clear", *there]) == 2 and home.store.labels("demo") == {"best": "0.2.0"}
    capsys.readouterr()
    assert "has no label" in out(capsys, "tag", "demo", "--clear", "-y", *there) and home.store.labels("demo") == {}
    assert "has no label" in out(capsys, "tag", "demo", "--clear", *there)  # nothing goes, so nobody is asked


def test_a_label_that_is_only_tried_is_not_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home, there = stocked(tmp_path), ["--workspace", str(tmp_path)]
    assert "demo@best would be demo@0.2.0" in out(capsys, "tag", "demo", "best", "--dry-run", *there)
    assert home.store.labels("demo") == {}
    assert run(["tag", "demo", "Best", "--dry-run", *there]) == run(["tag", "demo", "Best", *there]) == 2
    assert run(["tag", "demo", "best", "-y", *there]) == 2 and "no effect" in capsys.readouterr().err


def test_a_collection_deletes_only_what_was_listed(tmp_path: Path) -> None:
    store = stocked(tmp_path).store
    store.remove(AdapterRef("demo", "0.1.0"))
    first, *others = store.remains()
    store.collect([first, store.folder(AdapterRef("demo", "0.2.0"))])
    assert store.remains() == others and store.versions("demo") == ["0.2.0"]
