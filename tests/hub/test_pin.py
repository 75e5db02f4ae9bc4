"""`registry pin`: commits written for names, under the lock of the store, and what stands in the way."""

import json
import multiprocessing
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from resa_hub.adapter.workspace import Workspace
from resa_hub.cli.main import run
from resa_hub.config.refs import ModelRef
from resa_hub.config.registry import Registry, builtin_path
from resa_hub.core.errors import Usage
from resa_hub.hub.pin import pin
from tests.helpers.commands import HANG, RUN, environment, out, resa_hub
from tests.helpers.hub_server.dataset_routes import publish
from tests.helpers.hub_server.server import HubServer
from tests.helpers.registries import user as user

COMMIT = re.compile(r"[0-9a-f]{40}")


def test_pin_writes_commits_that_a_plan_then_names(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"README.md": b"x"}
    commits = {
        repo: publish(hub.storage, repo, files)
        for repo in ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "Tina-Yi/R1-Distill-Qwen-1.5B-STILL")
    }
    still = publish(hub.storage, "RUC-AIBOX/STILL-3-Preview-RL-Data", files)
    home = tmp_path / "home"
    home.mkdir()
    (home / "registry.yaml").write_text("# mine\nremotes: {lab: 'folder:/srv'}\n")
    found = json.loads(
        out(capsys, "registry", "pin", "tina-still", "dataset:still", "--workspace", str(home), "--json")
    )["pins"]
    assert [pin["name"] for pin in found] == ["r1-distill-1.5b", "tina-still", "still"] and all(
        COMMIT.fullmatch(pin["revision"]) for pin in found
    )
    known = Registry(home)
    adapter = commits["Tina-Yi/R1-Distill-Qwen-1.5B-STILL"]
    assert known.model("tina-still") == ModelRef.parse(
        f"deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B@{commits['deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B']}+Tina-Yi/R1-Distill-Qwen-1.5B-STILL@{adapter}:checkpoint-2000"
    )
    assert f"@{adapter}:checkpoint-50" in str(known.model("tina-still:checkpoint-50"))
    entry, before = known.model_entry("r1-distill-1.5b"), Registry().model_entry("r1-distill-1.5b")
    assert (
        entry
        and before
        and (entry.template, entry.config, entry.default_adapter)
        == (before.template, before.config, before.default_adapter)
    )
    assert known.dataset("still").revision == still and known.get("remotes", "lab") == "folder:/srv"
    assert "# mine" in (home / "registry.yaml.before-pin").read_text()
    shown = json.loads(out(capsys, "recipe", "show", "resa-still-v1", "--workspace", str(home), "--json"))["references"]
    base = commits["deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"]
    states = {
        "source": base,
        "source's adapter": adapter,
        "target": base,
        "trigger": still,
        "elicit": still,
        "SAE": "not pinned",
    }
    assert {reference["role"]: reference["state"] for reference in shown} == states


@pytest.mark.slow
def test_two_processes_pin_and_lose_nothing(hub: HubServer, tmp_path: Path) -> None:
    names = [[f"{who}{number}" for number in range(8)] for who in ("one", "two")]
    commit = publish(hub.storage, "some/data", {"README.md": b"x"})
    every = [name for part in names for name in part]
    (tmp_path / "registry.yaml").write_text(yaml.safe_dump({"datasets": {name: {"id": "some/data"} for name in every}}))
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=pinning, args=(part, tmp_path)) for part in names]
    for process in processes:
        process.start()
    for process in processes:
        process.join(HANG)
    assert [process.exitcode for process in processes] == [0, 0]
    entries = Registry(tmp_path).entries["datasets"].values()
    assert {entry.name: entry.value.revision for entry in entries if entry.layer == "workspace"} == dict.fromkeys(
        every, commit
    )


def pinning(names: list[str], folder: Path) -> None:
    """One process of two: a pin at a time."""
    for name in names:
        assert pin([f"dataset:{name}"], Workspace(folder))[0].revision


@pytest.mark.slow
def test_a_pin_waits_for_the_lock_and_keeps_what_was_written_meanwhile(hub: HubServer, tmp_path: Path) -> None:
    """The lock is the one that `import --sae` takes."""
    publish(hub.storage, "some/data", {"README.md": b"x"})
    path = tmp_path / "registry.yaml"
    path.write_text("datasets: {mine: {id: some/data}, moved: {id: some/data}, gone: {id: some/data}}\n")
    home = Workspace(tmp_path)
    command = [sys.executable, "-c", RUN, "registry", "pin", "dataset:mine", "dataset:moved", "dataset:gone", "--json"]
    with home.store.lock():
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment(HF_ENDPOINT=hub.url), stdout=subprocess.PIPE, text=True
        )
        while not hub.log:
            time.sleep(0.05)
        time.sleep(1)
        assert process.poll() is None and "revision" not in path.read_text()
        path.write_text(
            "datasets: {mine: {id: some/data, note: new}, moved: {id: other/data}}\nsaes: {}\nremotes: {lab: "
            "'folder:/srv'}\n"
        )
    told = json.loads(process.communicate(timeout=HANG)[0])["pins"]
    assert (
        process.returncode == 3
        and [bool(pin["revision"]) for pin in told] == [True, False, False]
        and "meanwhile" in told[1]["error"]
    )
    content = yaml.safe_load(path.read_text())
    assert content["datasets"]["mine"] == {"id": "some/data", "revision": told[0]["revision"], "note": "new"}
    assert (
        content["datasets"]["moved"] == {"id": "other/data"}
        and "gone" not in content["datasets"]
        and content["remotes"] == {"lab": "folder:/srv"}
    )


def test_what_the_hub_does_not_have_is_told_and_the_rest_is_written(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(hub.storage, "knoveleng/open-s1", {"a": b"x"})
    assert run(["registry", "pin", "all", "--workspace", str(tmp_path / "home")]) == 3
    assert "no such repository" in capsys.readouterr().out
    content = yaml.safe_load((tmp_path / "home/registry.yaml").read_text())
    assert (
        list(content) == ["datasets"]
        and list(content["datasets"]) == ["open-s1"]
        and content["datasets"]["open-s1"]["solution"] == "solution"
    )


def test_offline_a_pin_is_one_clear_error_and_nothing_is_written(tmp_path: Path) -> None:
    done = resa_hub("registry", "pin", "all", cwd=tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert (
        done.returncode == 7
        and len(done.stderr.splitlines()) == 2
        and "cannot be reached" in done.stderr
        and not list(tmp_path.iterdir())
    )


def test_all_leaves_out_what_is_no_repository(hub: HubServer, tmp_path: Path) -> None:
    """Packages and what is embedded have no commit, and their names are nobody's to ask for."""
    pins = pin(["all"], Workspace(tmp_path))
    assert pins and all("/" in each.id and not each.id.startswith("resa-hub/") for each in pins)
    assert not {"champ", "reasoning-gym", "tiny-chain", "tiny-r1"} & {each.name for each in pins}
    assert not hub.sent("GET", "package")
    with pytest.raises(Usage, match="nothing of this lies on the Hub"):
        pin(["champ"], Workspace(tmp_path))


def test_pins_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for names, code in ((["nobody"], 3), (["tina-tiny"], 2), (["saes:tina-still"], 3)):
        assert run(["registry", "pin", *names, "--workspace", str(tmp_path)]) == code, capsys.readouterr().err
    assert run(["registry", "pin", "all", "--workspace", str(builtin_path().parent)]) == 2
    assert "everybody" in capsys.readouterr().err
