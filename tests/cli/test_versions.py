"""The store by versions: every name of an adapter, labels, equal files once, removal, collection, several processes at
once.
"""

import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from resa_hub.adapter.blobs import FOLDER
from resa_hub.adapter.diff import compare_adapters
from resa_hub.adapter.layout import WEIGHTS
from resa_hub.adapter.staging import STAGING
from resa_hub.adapter.store import LABELS, Store
from resa_hub.adapter.verify import verify_folder
from resa_hub.adapter.workspace import Workspace
from resa_hub.cli.main import run
from resa_hub.config.refs import AdapterRef, ContentRef
from resa_hub.config.remotes import RemoteRef, parse_adapter
from resa_hub.core.errors import Conflict, HubError, NotFound, Usage
from resa_hub.hub.resolve import resolve_adapter
from resa_hub.hub.sharing import pull, push
from tests.helpers.adapters import make_adapter

MOMENTS, SECONDS = 200, 60
"""Of kills, and of work side by side."""


def stocked(folder: Path) -> Workspace:
    make_adapter(folder / "adapters", "demo", "0.1.0", seed=1)
    make_adapter(folder / "adapters", "demo", "0.2.0", seed=2)
    return Workspace.find(folder)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("demo", AdapterRef("demo")),
        ("demo@latest", AdapterRef("demo")),
        ("demo@0.1.0", AdapterRef("demo", "0.1.0")),
        ("demo@v0.1.0", AdapterRef("demo", "0.1.0")),
        ("demo@best", AdapterRef("demo", "best")),
        ("sha256:0123abcd", ContentRef("sha256:0123abcd")),
        ("hf:o/n@v0.1.0", RemoteRef("hf", "o/n", None, "v0.1.0")),
        ("folder:x#demo@0.1.0", RemoteRef("folder", "x", AdapterRef("demo", "0.1.0"))),
    ],
)
def test_every_name_of_an_adapter_is_told_apart(text: str, wanted: object) -> None:
    assert parse_adapter(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "sha256:",
        "sha256:xyz",
        "sha256:0123",
        "sha256:" + "0" * 65,
        "demo@v1",
        "demo@1.0",
        "demo@Best",
        "demo@",
        "ftp:x",
        "hf:x",
    ],
)
def test_what_names_no_adapter_is_refused(text: str) -> None:
    with pytest.raises(Usage):
        parse_adapter(text)


def test_all_names_find_the_same_adapter(tmp_path: Path) -> None:
    home = stocked(tmp_path / "one")
    first = resolve_adapter("demo@0.1.0", home)
    digest = first.manifest.content_hash
    assert resolve_adapter("demo", home).manifest.version == "0.2.0"
    assert resolve_adapter("demo@latest", home) == resolve_adapter("demo", home)
    assert [resolve_adapter(text, home) for text in (digest, digest[:20], "demo@v0.1.0")] == [first] * 3
    push("demo@0.1.0", f"folder:{tmp_path}/remote", workspace=home.folder)
    other = Workspace.find(tmp_path / "other")
    assert resolve_adapter(f"folder:{tmp_path}/remote#demo", other).manifest.content_hash == digest
    assert other.store.versions("demo") == ["0.1.0"]
    with pytest.raises(NotFound, match="content hash"):
        resolve_adapter("sha256:" + "0" * 64, home)


def test_a_beginning_shared_by_two_identities_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = stocked(tmp_path)
    with pytest.raises(Usage, match="begins 2"):
        home.store.by_content(ContentRef("sha256:"))


def test_a_label_names_one_version_and_moves(tmp_path: Path) -> None:
    home = stocked(tmp_path)
    home.store.label(AdapterRef("demo", "0.1.0"), "best")
    assert resolve_adapter("demo@best", home).manifest.version == "0.1.0"
    home.store.label(AdapterRef("demo"), "best")
    assert resolve_adapter("demo@best", home).manifest.version == "0.2.0"
    assert home.store.labels("demo") == {"best": "0.2.0"}
    with pytest.raises(NotFound, match="no label other"):
        resolve_adapter("demo@other", home)
    for bad in ("latest", "1", "v2", "Best", "a b", ""):
        with pytest.raises(Usage):
            home.store.label(AdapterRef("demo"), bad)
    home.store.remove(AdapterRef("demo", "0.2.0"))
    assert home.store.labels("demo") == {}  # its version is gone
    home.store.label(AdapterRef("demo", "0.1.0"), "best")
    home.store.label(AdapterRef("demo", "best"), None)
    assert home.store.labels("demo") == {}


def test_equal_files_take_space_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "adapters")
    folders = [make_adapter(store.root, name, seed=7) for name in ("one", "two")]
    a, b = ((folder / WEIGHTS).stat() for folder in folders)
    assert a.st_ino == b.st_ino and a.st_nlink == 3
    assert [verify_folder(folder).name for folder in folders] == ["one", "two"]
    store.remove(AdapterRef("one"))
    assert store.collect() == 0 and verify_folder(folders[1])
    store.remove(AdapterRef("two"))
    assert store.collect() > 0 and store.names() == [] and not any((store.root / FOLDER).iterdir())


def test_a_damaged_blob_does_not_reach_another_version(tmp_path: Path) -> None:
    store = Store(tmp_path / "adapters")
    first = make_adapter(store.root, "one", seed=7)
    data = bytearray((first / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (first / WEIGHTS).write_bytes(bytes(data))  # in place: the blob has the same bytes
    second = make_adapter(store.root, "two", seed=7)
    assert verify_folder(second).name == "two"
    with pytest.raises(HubError, match="was changed"):
        verify_folder(first)


def test_a_broken_version_can_be_removed(tmp_path: Path) -> None:
    home = stocked(tmp_path)
    (tmp_path / "adapters" / "demo" / "0.1.0" / "resa.json").write_text("{")
    assert home.store.remove(AdapterRef("demo", "0.1.0")) == AdapterRef("demo", "0.1.0")
    assert home.store.versions("demo") == ["0.2.0"]
    with pytest.raises(NotFound):
        home.store.remove(AdapterRef("demo", "0.1.0"))


def test_the_last_version_takes_its_folder_along(tmp_path: Path) -> None:
    home = stocked(tmp_path)
    home.store.label(AdapterRef("demo"), "best")
    for _ in range(2):
        home.store.remove(AdapterRef("demo"))
    assert not (home.store.root / "demo").exists()


def test_commands_of_versions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = ["--workspace", str(stocked(tmp_path).folder)]
    assert run(["tag", "demo@0.1.0", "best", *home]) == 0 and "demo@best is demo@0.1.0" in capsys.readouterr().out
    assert run(["log", "demo", "--json", *home]) == 0
    versions = json.loads(capsys.readouterr().out)["versions"]
    assert [(v["version"], v["labels"]) for v in versions] == [("0.2.0", []), ("0.1.0", ["best"])]
    assert run(["diff", "demo@0.1.0", "demo", *home]) == 0
    text = capsys.readouterr().out
    assert "different bytes" in text and "recipe.seed" in text and "q_proj" in text
    assert run(["rm", "demo", *home]) == 2 and "2 versions" in capsys.readouterr().err
    assert run(["rm", "demo@best", *home]) == 2 and "-y" in capsys.readouterr().err
    assert run(["rm", "demo@best", "-y", *home]) == 0 and run(["rm", "demo@best", "-y", *home]) == 3
    assert run(["rm", "demo", "--all", "-y", *home]) == 0 and run(["gc", "--json", *home]) == 0
    assert Store(tmp_path / "adapters").names() == []


def test_weights_are_compared_module_by_module(tmp_path: Path) -> None:
    import numpy

    home = stocked(tmp_path)
    one, two = resolve_adapter("demo@0.1.0", home), resolve_adapter("demo@0.2.0", home)
    same = compare_adapters(one, one)
    assert (
        same.identical
        and same.settings == {}
        and same.cosine == pytest.approx(1)
        and same.modules[0].cosine == pytest.approx(1)
    )
    found = compare_adapters(one, two)

    def full(folder: Path) -> "numpy.ndarray":
        from safetensors.numpy import load_file

        parts = load_file(folder / WEIGHTS)
        a, b = (next(value for key, value in parts.items() if f"lora_{part}" in key) for part in "AB")
        return 2.0 * (b.astype(float) @ a.astype(float))  # alpha 4, rank 2

    x, y = full(one.folder), full(two.folder)
    assert found.norm_a == pytest.approx(numpy.linalg.norm(x)) and found.norm_b == pytest.approx(numpy.linalg.norm(y))
    assert found.cosine == pytest.approx((x * y).sum() / numpy.linalg.norm(x) / numpy.linalg.norm(y))
    assert not found.identical and set(found.settings) == {"recipe.seed"}


def test_two_versions_made_at_once_get_two_numbers(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        folders = pool.starmap(_add_next, [(tmp_path / "adapters", seed) for seed in range(8)])
    store = Store(tmp_path / "adapters")
    assert len(set(folders)) == 8 and len(store.versions("demo")) == 8
    assert all(verify_folder(adapter.folder) for adapter in store.readable()[0])


def _add_next(root: Path, seed: int) -> str:
    from tests.helpers.adapters import written

    store = Store(root)
    with store.staging() as staged:
        finish = written(staged, "demo", seed)
        return str(store.add_next(staged, "demo", finish).folder)


def _hammer(root: Path, remote: Path, number: int, seconds: float) -> int:
    """Add, label, verify, push, pull and remove at random; only what another process may rightly cause is an error."""
    choice, store, kept = random.Random(number), Store(root), f"kept-{number}"
    home, end, rounds = root.parent, time.monotonic() + seconds, 0
    make_adapter(root, kept, seed=number)
    while time.monotonic() < end:
        name = f"shared-{choice.randrange(3)}"
        try:
            make_adapter(root, name, f"0.{choice.randrange(1, 4)}.0", seed=5)
            store.label(AdapterRef(name), "some")
            push(name, f"folder:{remote}", workspace=home)
            pull(f"folder:{remote}#{name}", workspace=home)
            [verify_folder(adapter.folder) for adapter in store.readable()[0] if choice.random() < 0.3]
            store.remove(AdapterRef(name))
            store.collect()
        except (NotFound, Conflict):
            pass  # somebody else removed it first
        rounds += 1
        assert verify_folder(root / kept / "0.1.0").name == kept
    return rounds


@pytest.mark.slow
def test_processes_that_share_a_store_lose_nothing(tmp_path: Path) -> None:
    root, remote = tmp_path / "adapters", tmp_path / "remote"
    with multiprocessing.get_context("fork").Pool(2) as pool:
        rounds = pool.starmap(_hammer, [(root, remote, number, SECONDS) for number in range(2)])
    store = Store(root)
    good, bad = store.readable()
    assert (
        not bad
        and {"kept-0", "kept-1"} <= set(store.names())
        and all(verify_folder(adapter.folder) for adapter in good)
        and min(rounds) > 1
    )
    assert not list((root / STAGING).iterdir())


def test_an_adapter_removed_while_it_is_sent_leaves_no_broken_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_adapter(tmp_path / "adapters", "demo")

    def checked_then_removed(folder: Path, *rest: Any) -> Any:
        manifest = verify_folder(folder, *rest)
        Store(tmp_path / "adapters").remove(AdapterRef("demo"))
        return manifest

    monkeypatch.setattr("resa_hub.hub.sharing.verify_folder", checked_then_removed)
    with pytest.raises(NotFound, match="removed while it was"):
        push("demo", f"folder:{tmp_path}/remote", workspace=tmp_path)
    assert not (tmp_path / "remote" / "refs").exists()


def _work(root: Path, remote: Path) -> None:
    """Everything that writes, again and again until it is killed."""
    home, number = root.parent, 0
    while True:
        number += 1
        name = f"n{number % 4}"
        make_adapter(root, name, seed=number % 4)
        push(name, f"folder:{remote}", workspace=home)
        Store(root).label(AdapterRef(name), "last")
        pull(f"folder:{remote}#{name}", workspace=home / "other")
        if number % 3 == 0:
            Store(root).remove(AdapterRef(name))
            Store(root).collect()


@pytest.mark.slow
def test_killed_at_random_moments_store_and_remote_verify(tmp_path: Path) -> None:
    root, remote, choice = tmp_path / "adapters", tmp_path / "remote", random.Random(3)
    context = multiprocessing.get_context("fork")
    for _ in range(MOMENTS):
        process = context.Process(target=_work, args=(root, remote))
        process.start()
        time.sleep(choice.uniform(0.02, 0.25))
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        for place in (root, root.parent / "other" / "adapters"):
            good, bad = Store(place).readable()
            assert not bad
            assert all(verify_folder(adapter.folder) for adapter in good)
        for reference in remote.glob("refs/*/*.json"):
            fresh = tmp_path / "fresh"
            pull(f"folder:{remote}#{reference.parent.name}@{reference.stem}", workspace=fresh)
            shutil.rmtree(fresh)
    store = Store(root)
    store.collect()
    with store.staging():
        pass  # sweeps what the dead left
    assert not list((root / STAGING).iterdir())
    assert all(
        (folder / LABELS).is_file() or store.versions(folder.name)
        for folder in root.iterdir()
        if not folder.name.startswith(".")
    )
