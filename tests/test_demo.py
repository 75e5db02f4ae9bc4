"""`resa-hub demo` shows real commands and says what their files say; the example adapter of the repository was made the
same way.
"""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from resa_hub.adapter.recorded import load_evaluations
from resa_hub.adapter.store import Store
from resa_hub.adapter.verify import verify_folder
from resa_hub.cli.demo import FEATURES, TARGETS, TUNED, script
from resa_hub.config.refs import AdapterRef
from tests.helpers.commands import ROOT, children_cpu
from tests.helpers.demo import Demonstration, Installed

pytestmark = pytest.mark.slow
EXAMPLE = ROOT / "adapters" / FEATURES / "0.1.0"


def evaluations(workspace: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """(adapter, target) -> what `eval` recorded beside the adapter, read as plain files."""
    found = {}
    for path in (workspace / "adapters").glob("*/0.1.0/evals/*.json"):
        evaluation = json.loads(path.read_text())
        found[path.parts[-4], evaluation["target"]] = evaluation
    return found


def table(output: str) -> dict[tuple[str, str], list[str]]:
    """(adapter, target) -> the cells of the final table."""
    lines = output.partition("What came out\n")[2].partition("\n\n")[0].splitlines()[1:]
    return {(cells[0], cells[1]): cells[2:] for cells in (re.split(r"\s{2,}", line) for line in lines)}


def test_every_command_line_is_shown_before_it_is_run(demonstration: Demonstration) -> None:
    shown = [shlex.split(line)[2:] for line in demonstration.output.splitlines() if line.startswith("$ resa-hub ")]
    assert shown == [arguments for _, arguments in script("demo")]
    assert {arguments[0] for arguments in shown} == {"extract", "attach", "push", "pull", "eval"}


def test_table_says_what_the_files_say(demonstration: Demonstration) -> None:
    recorded, rows = evaluations(demonstration.workspace), table(demonstration.output)
    assert rows.keys() == recorded.keys() == {(name, target) for name in (FEATURES, TUNED) for target in TARGETS}
    for key, evaluation in recorded.items():
        assert rows[key][-1] == evaluation["verdict"] and rows[key][0] == f"{evaluation['gain']:+.1f}", key


def test_feature_difference_transfers_to_base_and_sibling(demonstration: Demonstration) -> None:
    recorded = evaluations(demonstration.workspace)
    for target in TARGETS:
        evaluation = recorded[FEATURES, target]
        assert evaluation["verdict"] == "transferred" and evaluation["gain_ci"][0] > 0, target
        assert {"base", "source", "adapter", "random"} <= {arm["role"] for arm in evaluation["arms"]}
        assert [arm["name"] for arm in evaluation["arms"] if arm["role"] == "random"] == [
            f"{FEATURES}@0.1.0 random-{seed}" for seed in (1, 2, 3)
        ]


def test_both_fits_are_told_and_the_friend_has_the_same_adapter(demonstration: Demonstration) -> None:
    assert "exact: the adapter's own base" in demonstration.errors and "kin: same shapes" in demonstration.errors
    mine, friends = (
        Store(folder / "adapters").get(AdapterRef(FEATURES))
        for folder in (demonstration.workspace, demonstration.workspace / "friend")
    )
    assert mine.manifest == friends.manifest == verify_folder(friends.folder)


def test_second_run_reuses_everything(demonstration: Demonstration, installed: Installed) -> None:
    before = children_cpu()
    again = installed.run("demo", "--workspace", "demo")
    assert again.returncode == 0, again.stderr
    assert children_cpu() - before < demonstration.cpu / 2
    assert table(again.stdout) == table(demonstration.output)
    assert {adapter.manifest.version for adapter in Store(demonstration.workspace / "adapters").readable()[0]} == {
        "0.1.0"
    }
    assert (
        again.stderr.count("this recipe was finished before") == 2
        and "train adapter" not in again.stderr
        and "samples/s" not in again.stderr
    )


def test_committed_example_is_whole_and_comes_out_again(demonstration: Demonstration) -> None:
    committed = Store(ROOT / "adapters").get(AdapterRef(FEATURES, "0.1.0"))
    assert verify_folder(EXAMPLE) == committed.manifest
    again = Store(demonstration.workspace / "adapters").get(AdapterRef(FEATURES, "0.1.0"))
    assert again.manifest.recipe == committed.manifest.recipe
    words = {evaluation["target"]: evaluation["verdict"] for evaluation in load_evaluations(committed)}
    assert words.keys() == set(TARGETS)
    assert {evaluation["target"]: evaluation["verdict"] for evaluation in load_evaluations(again)} == words
