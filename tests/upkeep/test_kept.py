"""What is kept beside the adapters: found, told, and freed only where nothing is lost and nobody works with it."""

import json
import multiprocessing
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

import filelock
import pytest

import resa_hub
from resa_hub.adapter.workspace import Workspace
from resa_hub.cli.main import run
from resa_hub.core.errors import Conflict, Usage
from resa_hub.evaluation.sampling.samples import FILE, SampleStore
from resa_hub.upkeep.free import at_work, free
from resa_hub.upkeep.kept import KINDS, SAMPLES, find_kept, not_used_for, safe_kinds
from tests.helpers.commands import HANG, out
from tests.helpers.commands import resa_hub as command
from tests.helpers.old_workspace import unpack
from tests.helpers.terminal import at_terminal

FORK = multiprocessing.get_context("fork")
NAMES = ["kept", "kept-control", "kept-paper"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Nothing of the user's own caches is looked at."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "models"))
    return Workspace.find(unpack(tmp_path / "home"))


def kinds_in(workspace: Workspace) -> dict[str, int]:
    found = [item.kind for item in find_kept(workspace)]
    return {kind: found.count(kind) for kind in found}


def unfinished(workspace: Workspace, name: str = "demo-0123") -> Path:
    folder = workspace.cache / "work" / name
    folder.mkdir()
    (folder / "trainer.pt").write_bytes(b"0" * 1000)
    return folder


def test_every_folder_of_the_cache_belongs_to_a_kind() -> None:
    """A new folder needs a row of `KINDS`: else nobody is told of it."""
    sources = [path.read_text() for path in Path(resa_hub.__file__ or "").parent.rglob("*.py")]
    named = {name for text in sources for name in re.findall(r'\.cache / "(\w+)"', text)}
    upkeep = (Path(resa_hub.__file__ or "").parent / "upkeep/kept.py").read_text()
    assert named and all(f'"{name}"' in upkeep for name in named)
    assert SAMPLES == FILE


def test_all_is_found_with_its_size(home: Workspace) -> None:
    assert kinds_in(home) == {"controls": 2, "rollouts": 2, "samples": 1}
    sizes = {item.kind: item.bytes for item in find_kept(home)}
    assert sizes["samples"] == (home.cache / FILE).stat().st_size
    unfinished(home)
    (home.cache / "harness/abc").mkdir(parents=True)
    (home.cache / "reproduce/abc").mkdir(parents=True)
    (home.cache / "sweeps").mkdir()
    (home.cache / "sweeps/one.json").write_text("{}")
    assert kinds_in(home).keys() == KINDS.keys() - {"remains", "pulls", "huggingface"}
    (run_item,) = find_kept(home, ["runs"])
    assert run_item.bytes == 1000 and time.time() - run_item.last_used < 60


def test_only_what_is_safe_goes_unnamed(home: Workspace) -> None:
    unfinished(home)
    free(find_kept(home, safe_kinds()), home)
    assert kinds_in(home) == {"runs": 1, "samples": 1}
    assert home.store.names() == NAMES and not home.store.readable()[1]


def test_by_name_all_goes_but_the_adapters(home: Workspace) -> None:
    unfinished(home)
    freed = free(find_kept(home), home)
    assert freed > 100_000 and find_kept(home) == [] and home.store.names() == NAMES
    assert not list(home.cache.glob("*/*.new"))


def test_what_a_killed_deletion_left_is_never_taken_for_whole(home: Workspace) -> None:
    """A folder is renamed before it is deleted; under that name it counts as remains."""
    process = FORK.Process(target=str)
    process.start()
    process.join()
    control = next((home.cache / "controls").iterdir())
    control.rename(control.with_name(f"{control.name}.{process.pid}.new"))
    alive = home.cache / "controls" / f"other.{os.getpid()}.new"
    alive.mkdir()
    assert [item.name for item in find_kept(home, ["remains"])] == [
        f".resa-hub/controls/{control.name}.{process.pid}.new"
    ]
    free(find_kept(home, ["remains"]), home)
    assert find_kept(home, ["remains"]) == [] and alive.exists()
    assert "is writing" in at_work(home)


def test_remains_of_the_store_and_of_damaged_samples(home: Workspace) -> None:
    shutil.copytree(home.store.root / "kept", home.store.root / "copy")
    shutil.rmtree(home.store.root / "copy/0.1.0")  # a name without a version
    blobs = home.store.root / ".blobs"
    blobs.mkdir(exist_ok=True)
    (blobs / ("0" * 64)).write_bytes(b"nobody needs me")
    (home.cache / f"{FILE}.damaged-1").write_bytes(b"not a database")
    (home.cache / "harness/abc.failed").mkdir(parents=True)
    names = {item.name for item in find_kept(home, ["remains"])}
    assert names >= {f"adapters/.blobs/{'0' * 64}", f".resa-hub/{FILE}.damaged-1", ".resa-hub/harness/abc.failed"}
    assert free(find_kept(home, ["remains"]), home) >= 15 + 14
    assert find_kept(home, ["remains"]) == [] and home.store.names() == NAMES


@contextmanager
def another_process(work: Callable[[Path, Event, Event], None], path: Path) -> Iterator[None]:
    ready, done = FORK.Event(), FORK.Event()
    process = FORK.Process(target=work, args=(path, ready, done))
    process.start()
    try:
        assert ready.wait(HANG)
        yield
    finally:
        done.set()
        process.join()


def _hold(path: Path, ready: Event, done: Event) -> None:
    with filelock.FileLock(path):
        ready.set()
        done.wait(HANG)


def _sample(folder: Path, ready: Event, done: Event) -> None:
    with closing(SampleStore(folder)) as store:
        assert store.count() > 0
        ready.set()
        done.wait(HANG)


@pytest.mark.parametrize("kind", ["runs", "rollouts", "controls", "samples"])
def test_nothing_goes_while_an_extraction_is_at_work(home: Workspace, kind: str) -> None:
    folder = unfinished(home)
    before = kinds_in(home)
    with another_process(_hold, home.cache / "work" / f"{folder.name}.lock"):
        with pytest.raises(Conflict, match="another process holds"):
            free(find_kept(home, [kind]), home)
        for rest in ([], ["--dry-run"], ["-y"]):
            assert run(["cache", "free", kind, *rest, "--workspace", str(home.folder)]) == 6
        assert kinds_in(home) == before
    free(find_kept(home, [kind]), home)
    assert kind not in kinds_in(home)


@pytest.mark.parametrize("kind", ["samples", "controls"])
def test_nothing_goes_while_an_evaluation_is_at_work(home: Workspace, kind: str) -> None:
    with another_process(_sample, home.cache), pytest.raises(Conflict, match="an evaluation is using"):
        free(find_kept(home, [kind]), home)
    assert at_work(home) == ""
    with closing(sqlite3.connect(home.cache / FILE)) as db:
        assert db.execute("SELECT count(*) FROM samples").fetchone()[0] > 0
    with closing(SampleStore(home.cache)) as store:  # works as before: the log is there again
        assert store.count() > 0
    free(find_kept(home, [kind]), home)
    assert kind not in kinds_in(home)


def test_age_is_that_of_the_last_use(home: Workspace) -> None:
    old, _ = sorted((home.cache / "rollouts").glob("*.jsonl"))
    long_ago = time.time() - 40 * 86_400
    os.utime(old, (long_ago, long_ago))
    items = find_kept(home, ["rollouts"])
    assert [item.name for item in not_used_for(items, "30d")] == [old.name]
    assert not_used_for(items, "6w") == [] and len(not_used_for(items, "0m")) == 2
    os.utime(old, (time.time(), long_ago))  # read a moment ago
    assert not_used_for(find_kept(home, ["rollouts"]), "30d") == []
    for wrong in ("30", "d", "-1d", "3 days", "1y", ""):
        with pytest.raises(Usage, match="is no time"):
            not_used_for(items, wrong)


def test_the_command_lists_and_frees(home: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    there = ["--workspace", str(home.folder)]
    table = out(capsys, "cache", *there)
    assert re.search(r"controls +2 .* yes ", table) and re.search(r"samples +1 .* by name ", table)
    assert len(out(capsys, "cache", "list", "controls", *there).splitlines()) == 3
    document = json.loads(out(capsys, "cache", "--json", *there))
    assert {item["kind"]: item["safe"] for item in document["items"]} == {
        "controls": True,
        "rollouts": True,
        "samples": False,
    }
    assert document["bytes"] == sum(item["bytes"] for item in document["items"])
    assert run(["cache", "list", "sample", *there]) == 2 and "did you mean samples" in capsys.readouterr().err


def test_freeing_says_what_goes_and_asks(home: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    there = ["--workspace", str(home.folder)]
    before = kinds_in(home)
    assert "4 would be deleted" in out(capsys, "cache", "free", "--dry-run", *there)
    told = json.loads(out(capsys, "cache", "free", "--dry-run", "--json", *there))
    assert told["dry_run"] and len(told["would_delete"]) == 4 and told["bytes"] > 0
    assert run(["cache", "free", *there]) == 2  # nobody is there to ask
    printed = capsys.readouterr()
    assert "controls " in printed.out and "add -y" in printed.err
    assert kinds_in(home) == before
    assert "there is nothing to free" in out(capsys, "cache", "free", "--older-than", "9999w", *there)
    assert json.loads(out(capsys, "cache", "free", "-y", "--json", *there))["freed"] == told["bytes"]
    assert kinds_in(home) == {"samples": 1}
    assert "freed" in out(capsys, "cache", "free", "samples", "-y", *there) and kinds_in(home) == {}


def test_a_person_is_asked(home: Workspace) -> None:
    arguments = ("cache", "free", "controls", "--workspace", str(home.folder))
    refused = at_terminal(*arguments, answer="n")
    assert refused.code == 2 and "delete these 2, 97 kB?" in refused.shown and "nothing was done" in refused.shown
    assert kinds_in(home)["controls"] == 2
    assert at_terminal(*arguments, answer="y").code == 0 and "controls" not in kinds_in(home)


def repository(cache: Path, name: str, kind: str = "models") -> Path:
    """As the Hub's client lays it out."""
    folder, commit = cache / f"{kind}--{name.replace('/', '--')}", "a" * 40
    (folder / "blobs").mkdir(parents=True)
    (folder / "blobs/0123").write_bytes(b"w" * 5000)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text(commit)
    (folder / f"snapshots/{commit}").mkdir(parents=True)
    (folder / f"snapshots/{commit}/model.safetensors").symlink_to("../../blobs/0123")
    return folder


def test_the_hugging_face_cache_goes_by_name_alone(tmp_path: Path) -> None:
    """In a process of its own, for the client reads its environment once."""
    models, user = tmp_path / "models", tmp_path / "user"
    theirs = repository(models, "org/model")
    broken = repository(models, "org/never-finished", "datasets")
    shutil.rmtree(broken / "snapshots")
    pulled = repository(user / "resa-hub/hub/0123456789abcdef", "you/adapter")
    there = {"HF_HUB_CACHE": str(models), "XDG_CACHE_HOME": str(user), "cwd": tmp_path}
    listed = json.loads(command("cache", "--json", **there).stdout)["items"]
    assert {(item["kind"], item["name"]) for item in listed} == {
        ("huggingface", "org/model"),
        ("huggingface", "datasets/org/never-finished"),
        ("pulls", "you/adapter"),
    }
    assert all(5000 <= item["bytes"] < 6000 for item in listed)
    assert command("cache", "free", "-y", **there).returncode == 0
    assert theirs.exists() and broken.exists() and not pulled.exists()
    done = command("cache", "free", "hf", "-y", **there)
    assert done.returncode == 0, done.stderr
    assert not theirs.exists() and not broken.exists()
