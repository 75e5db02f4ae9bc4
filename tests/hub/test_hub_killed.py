"""Push to and pull from a Hub, killed at any moment: nothing half is ever seen, and the same command again completes
what is missing.
"""

import multiprocessing
import os
import random
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from resa_hub.adapter.layout import content_hash, identity_of, scan
from resa_hub.adapter.staging import STAGING
from resa_hub.adapter.store import Store
from resa_hub.adapter.verify import verify_folder
from resa_hub.config.refs import AdapterRef
from resa_hub.hub import sharing
from tests.helpers.adapters import make_adapter
from tests.helpers.commands import HANG
from tests.helpers.hub_server.fixtures import REMOTE, REPO
from tests.helpers.hub_server.server import HubServer

MOMENTS = 50
SLOW = 0.02
"""Seconds that an exchange takes, so that a kill falls between any two of them."""


def _push(workspace: Path, name: str) -> None:
    sharing.push(name, REMOTE, workspace=workspace)


def _pull(workspace: Path, ref: str) -> None:
    sharing.pull(ref, workspace=workspace)


def killed(process: BaseProcess, hub: HubServer, after: int, more: float) -> bool:
    """Kill it once the Hub has answered so many requests, and `more` seconds later; was it still running?"""
    hub.log.clear()
    process.start()
    until = time.monotonic() + HANG
    while len(hub.log) < after and process.exitcode is None and time.monotonic() < until:
        time.sleep(0.002)
    process.join(more)
    alive = process.exitcode is None
    if alive:
        os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    return alive


def exchanges(process: BaseProcess, hub: HubServer) -> int:
    """How many requests the whole takes in a process of its own."""
    hub.log.clear()
    process.start()
    process.join(HANG)
    assert process.exitcode == 0
    return len(hub.log)


def settled(hub: HubServer) -> None:
    """The dead have open lines: the server finishes what has reached it wholly."""
    count = -1
    while count != len(hub.log):
        count = len(hub.log)
        time.sleep(0.05 + 2 * SLOW)


def tags_are_whole(hub: HubServer, store: Store) -> int:
    """Every tag shows exactly one of the store's adapters, byte by byte; returns how many there are."""
    repo = hub.storage.repos.get(REPO)
    tags = repo.tags if repo else {}
    for tag, commit in tags.items():
        adapter = store.get(AdapterRef("demo", tag.removeprefix("v")))
        tree = hub.storage.commits[commit].tree
        assert {entry.path: entry.sha256 for entry in scan(adapter.folder)} == {
            path: file.sha256 for path, file in tree.items() if path != ".gitattributes"
        }
    return len(tags)


@pytest.mark.slow
def test_a_push_killed_at_random_moments_is_completed_by_the_next(hub: HubServer, tmp_path: Path) -> None:
    """Each round pushes a version of its own, killed, then again to its end: the files that the dead one got through
    are not sent twice.
    """
    context, choice, home = multiprocessing.get_context("fork"), random.Random(5), tmp_path / "here"
    store, hub.slow = Store(home / "adapters"), SLOW
    make_adapter(store.root, version="0.1.0")
    whole, cut, spared = exchanges(context.Process(target=_push, args=(home, "demo")), hub), 0, 0
    assert tags_are_whole(hub, store) == 1
    for number in range(MOMENTS):
        version = f"0.2.{number}"
        make_adapter(store.root, version=version, seed=number + 1)
        cut += killed(
            context.Process(target=_push, args=(home, f"demo@{version}")),
            hub,
            choice.randrange(whole),
            choice.uniform(0, 2 * SLOW),
        )
        settled(hub)
        there = tags_are_whole(hub, store)
        assert there in (number + 1, number + 2) and verify_folder(store.get(AdapterRef("demo", version)).folder)
        tree, blobs = hub.storage.tree(REPO), {path.name for path in hub.storage.blobs.iterdir()}
        entries = scan(store.get(AdapterRef("demo", version)).folder)
        hub.log.clear()
        done = sharing.push(f"demo@{version}", REMOTE, workspace=home)
        assert [entry.path for entry in done.sent] == [
            entry.path for entry in entries if entry.path not in tree or tree[entry.path].sha256 != entry.sha256
        ]
        uploads = [exchange for exchange in hub.log if exchange.method == "PUT"]  # of files in LFS
        known = [entry for entry in done.sent if entry.path.endswith(".safetensors") and entry.sha256 in blobs]
        assert (
            not (known and uploads)
            and len(hub.sent("POST", "/commit/")) == bool(done.sent)
            and len(hub.sent("POST", "/tag/")) == (there == number + 1)
        )
        spared += bool(known) or not done.sent
        assert (
            tags_are_whole(hub, store) == number + 2
            and not sharing.push(f"demo@{version}", REMOTE, workspace=home).changed
        )
    assert cut >= MOMENTS // 2, f"{cut} of {MOMENTS} were killed at work"
    assert spared  # some were killed after the upload and before the end


@pytest.mark.slow
def test_a_pull_killed_at_random_moments_leaves_whole_adapters(hub: HubServer, tmp_path: Path) -> None:
    context, choice, home, there = (
        multiprocessing.get_context("fork"),
        random.Random(7),
        tmp_path / "here",
        tmp_path / "there",
    )
    for number in range(MOMENTS + 1):
        folder = make_adapter(home / "adapters", version=f"0.1.{number}", seed=number)
        sharing.push(f"demo@0.1.{number}", REMOTE, workspace=home)
    hub.slow, cut = SLOW, 0
    whole = exchanges(context.Process(target=_pull, args=(there, f"{REMOTE}@0.1.0")), hub)
    store = Store(there / "adapters")
    for number in range(1, MOMENTS + 1):
        ref = f"{REMOTE}@0.1.{number}"
        cut += killed(
            context.Process(target=_pull, args=(there, ref)), hub, choice.randrange(whole), choice.uniform(0, 2 * SLOW)
        )
        settled(hub)
        good, bad = store.readable()
        assert not bad and len(good) in (number, number + 1) and all(verify_folder(adapter.folder) for adapter in good)
        again = sharing.pull(ref, workspace=there)
        assert again.new == (len(good) == number)
        folder = home / "adapters" / "demo" / f"0.1.{number}"
        assert scan(again.adapter.folder) == scan(folder) and again.adapter.manifest.content_hash == content_hash(
            identity_of(scan(folder))
        )
    assert cut >= MOMENTS // 2, f"{cut} of {MOMENTS} were killed at work"
    assert not list((store.root / STAGING).iterdir()) and len(store.versions("demo")) == MOMENTS + 1
