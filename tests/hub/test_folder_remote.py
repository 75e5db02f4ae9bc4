"""Adapters through a shared folder: what arrives is what was sent, and what was changed on the way is refused."""

import json
import os
import threading
from pathlib import Path

import pytest

from resa_hub.adapter.layout import CARD, CONFIG, MANIFEST, WEIGHTS, scan
from resa_hub.cli.main import run
from resa_hub.core.errors import Conflict, HubError, Integrity, NotFound, RunFailed, Usage
from resa_hub.core.files import hash_file
from resa_hub.hub import sharing
from tests.helpers.adapters import make_adapter, names_in


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A workspace holding demo@0.1.0."""
    make_adapter(tmp_path / "here" / "adapters")
    return tmp_path / "here"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "there"


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    return tmp_path / "shared"


def blob_of(shared: Path, path: str, name: str = "demo", version: str = "0.1.0") -> Path:
    reference = json.loads((shared / "refs" / name / f"{version}.json").read_text())
    return shared / "blobs" / next(file["sha256"] for file in reference["files"] if file["path"] == path)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rewrite(shared: Path, **changes: object) -> None:
    path = shared / "refs" / "demo" / "0.1.0.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_push_then_pull_gives_equal_bytes(here: Path, there: Path, shared: Path) -> None:
    pushed = sharing.push("demo", f"folder:{shared}", workspace=here)
    pulled = sharing.pull(pushed.uri, workspace=there)
    assert pushed.changed and pushed.uri == f"folder:{shared}#demo@0.1.0" == pulled.location
    assert {entry.path for entry in pushed.sent} == {WEIGHTS, CONFIG, MANIFEST, CARD}
    assert pulled.new and snapshot(pulled.adapter.folder) == snapshot(here / "adapters/demo/0.1.0")
    assert not sharing.pull(f"folder:{shared}", workspace=there).new


def test_second_push_sends_nothing(here: Path, shared: Path) -> None:
    sharing.push("demo", f"folder:{shared}", workspace=here)
    before = snapshot(shared)
    again = sharing.push("demo", f"folder:{shared}", workspace=here)
    assert (again.sent, again.changed) == ((), False)
    assert snapshot(shared) == before


def test_dry_run_writes_nothing(here: Path, shared: Path) -> None:
    planned = sharing.push("demo", f"folder:{shared}", workspace=here, dry_run=True)
    assert planned.changed and len(planned.sent) == 4
    assert not shared.exists()


def test_relative_path_and_setting(here: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shared.parent)
    (here / "registry.yaml").write_text("settings: {remote: 'folder:shared'}\n")
    assert sharing.push("demo", workspace=here).uri == "folder:shared#demo@0.1.0"
    assert (shared / "refs/demo/0.1.0.json").is_file()


def test_push_needs_a_remote(here: Path, shared: Path) -> None:
    for to in (None, "ftp:x", f"folder:{shared}#demo"):
        with pytest.raises(Usage) as raised:
            sharing.push("demo", to, workspace=here)
        assert raised.value.hint


def test_latest_version_is_pulled_by_number(here: Path, there: Path, shared: Path) -> None:
    for seed, version in enumerate(("0.2.0", "0.10.0"), start=1):
        make_adapter(here / "adapters", version=version, seed=seed)
        sharing.push(f"demo@{version}", f"folder:{shared}", workspace=here)
    assert sharing.pull(f"folder:{shared}#demo", workspace=there).adapter.manifest.version == "0.10.0"
    assert sharing.pull(f"folder:{shared}#demo@0.2.0", workspace=there).adapter.manifest.version == "0.2.0"


def test_several_adapters_must_be_named(here: Path, there: Path, shared: Path) -> None:
    make_adapter(here / "adapters", name="other")
    for name in ("demo", "other"):
        sharing.push(name, f"folder:{shared}", workspace=here)
    with pytest.raises(Usage, match="demo, other"):
        sharing.pull(f"folder:{shared}", workspace=there)


@pytest.mark.parametrize("tail", ["/nowhere", "#absent", "#demo@0.9.0"])
def test_what_is_not_there_is_not_found(here: Path, there: Path, shared: Path, tail: str) -> None:
    sharing.push("demo", f"folder:{shared}", workspace=here)
    with pytest.raises(NotFound) as raised:
        sharing.pull(f"folder:{shared}{tail}", workspace=there)
    assert raised.value.hint and names_in(there) == []


def test_empty_folder_is_not_found(there: Path, shared: Path) -> None:
    shared.mkdir()
    with pytest.raises(NotFound, match="holds no adapters"):
        sharing.pull(f"folder:{shared}", workspace=there)


def test_other_bytes_conflict_on_push(here: Path, there: Path, shared: Path) -> None:
    sharing.push("demo", f"folder:{shared}", workspace=here)
    before = snapshot(shared)
    make_adapter(there / "adapters", seed=1)
    for dry_run in (True, False):
        with pytest.raises(Conflict):
            sharing.push("demo", f"folder:{shared}", workspace=there, dry_run=dry_run)
    assert {path for path, content in snapshot(shared).items() if before.get(path) != content} == set()


def test_other_bytes_conflict_on_pull(here: Path, there: Path, shared: Path) -> None:
    sharing.push("demo", f"folder:{shared}", workspace=here)
    mine = snapshot(make_adapter(there / "adapters", seed=1))
    with pytest.raises(Conflict):
        sharing.pull(f"folder:{shared}", workspace=there)
    assert snapshot(there / "adapters/demo/0.1.0") == mine and names_in(there) == ["demo"]


def test_two_pushes_of_one_version_leave_one(tmp_path: Path, shared: Path) -> None:
    """Eight workspaces hold eight different demo@0.1.0: one wins, the others learn of it, and what is there is
    whole.
    """
    for seed in range(8):
        make_adapter(tmp_path / str(seed) / "adapters", seed=seed)
    won, lost = [], []

    def push(seed: int) -> None:
        try:
            won.append(sharing.push("demo", f"folder:{shared}", workspace=tmp_path / str(seed)))
        except Conflict as error:
            lost.append(error)

    threads = [threading.Thread(target=push, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    assert sharing.pull(f"folder:{shared}", workspace=tmp_path / "there").new


def test_evaluations_of_both_sides_stay(here: Path, there: Path, shared: Path) -> None:
    sharing.push("demo", f"folder:{shared}", workspace=here)
    make_adapter(there / "adapters", evals={"theirs.json": {"gain": 1}})
    (here / "adapters/demo/0.1.0/evals").mkdir()
    (here / "adapters/demo/0.1.0/evals/ours.json").write_text('{"gain": 2}')
    assert sharing.push("demo", f"folder:{shared}", workspace=there).changed
    assert [entry.path for entry in sharing.push("demo", f"folder:{shared}", workspace=here).sent] == [
        "evals/ours.json"
    ]
    third = sharing.pull(f"folder:{shared}", workspace=there.parent / "third").adapter
    assert {"evals/ours.json", "evals/theirs.json"} <= {entry.path for entry in scan(third.folder)}


@pytest.mark.parametrize("path", [WEIGHTS, CONFIG, MANIFEST, CARD])
def test_tampered_blob_is_refused_and_mended_by_a_push(here: Path, there: Path, shared: Path, path: str) -> None:
    sharing.push("demo", f"folder:{shared}", workspace=here)
    blob = blob_of(shared, path)
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    with pytest.raises(Integrity, match=path):
        sharing.pull(f"folder:{shared}", workspace=there)
    assert names_in(there) == []
    assert [entry.path for entry in sharing.push("demo", f"folder:{shared}", workspace=here).sent] == [path]
    assert sharing.pull(f"folder:{shared}", workspace=there).new


@pytest.mark.parametrize("harm", ["missing", "longer", "shorter", "link", "pipe", "folder"])
def test_blob_that_is_no_whole_plain_file_is_refused(
    here: Path, there: Path, shared: Path, tmp_path: Path, harm: str
) -> None:
    sharing.push("demo", f"folder:{shared}", workspace=here)
    blob = blob_of(shared, WEIGHTS)
    content = blob.read_bytes()
    blob.unlink()
    if harm == "longer":
        blob.write_bytes(content + b"\0")
    elif harm == "shorter":
        blob.write_bytes(content[:-1])
    elif harm == "link":
        (tmp_path / "elsewhere").write_bytes(content)
        blob.symlink_to(tmp_path / "elsewhere")
    elif harm == "pipe":
        os.mkfifo(blob)
    elif harm == "folder":
        blob.mkdir()
    with pytest.raises(Integrity):
        sharing.pull(f"folder:{shared}", workspace=there)
    assert names_in(there) == []


@pytest.mark.parametrize(
    "path", ["../../evil.json", "/evil.json", "evil.pkl", ".env", "evals/../../evil.json", "sae/layers.1/code.py"]
)
def test_reference_that_lists_a_hostile_path_is_refused(here: Path, there: Path, shared: Path, path: str) -> None:
    sharing.push("demo", f"folder:{shared}", workspace=here)
    files = json.loads((shared / "refs/demo/0.1.0.json").read_text())["files"]
    rewrite(shared, files=[*files, {**files[0], "path": path}])
    with pytest.raises(Integrity):
        sharing.pull(f"folder:{shared}", workspace=there)
    assert names_in(there) == [] and not list(there.parent.rglob("evil*"))


def test_damaged_references_are_refused(here: Path, there: Path, shared: Path) -> None:
    sharing.push("demo", f"folder:{shared}", workspace=here)
    path = shared / "refs/demo/0.1.0.json"
    good = path.read_text()
    files = json.loads(good)["files"]
    harms: list[dict[str, object]] = [
        {"schema": 2},
        {"name": "other"},
        {"version": "0.2.0"},
        {"content_hash": "sha256:0"},
        {"extra": 1},
        {"files": []},
        {"files": files * 2},
        {"files": [{**file, "sha256": "../refs/demo/0.1.0.json"} for file in files]},
        {"files": [{**file, "size": 10**14} for file in files]},
    ]
    for harm in harms:
        rewrite(shared, **harm)
        with pytest.raises(Integrity):
            sharing.pull(f"folder:{shared}#demo@0.1.0", workspace=there)
        path.write_text(good)
    path.write_text("{")
    with pytest.raises(Integrity):
        sharing.pull(f"folder:{shared}#demo@0.1.0", workspace=there)
    assert names_in(there) == []


def test_pull_writes_nothing_into_the_folder(here: Path, there: Path, shared: Path) -> None:
    sharing.push("demo", f"folder:{shared}", workspace=here)
    before = {path: path.lstat().st_mtime_ns for path in shared.rglob("*")}
    for path in shared.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    sharing.pull(f"folder:{shared}", workspace=there)
    assert {path: path.lstat().st_mtime_ns for path in shared.rglob("*")} == before


def test_unwritable_folder_is_a_failed_run(here: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFailed) as raised:
        sharing.push("demo", f"folder:{tmp_path / 'file' / 'shared'}", workspace=here)
    assert raised.value.hint


@pytest.mark.parametrize("stray", [".env", "code.py", "weights.pkl", "adapter_model.bin"])
def test_nothing_else_lying_in_the_folder_is_sent(here: Path, shared: Path, stray: str) -> None:
    (here / "adapters/demo/0.1.0" / stray).write_text("secret")
    with pytest.raises(Integrity, match=stray):
        sharing.push("demo", f"folder:{shared}", workspace=here)
    assert not shared.exists()


def test_changed_adapter_is_not_sent(here: Path, shared: Path) -> None:
    with (here / "adapters/demo/0.1.0" / WEIGHTS).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    with pytest.raises(Integrity):
        sharing.push("demo", f"folder:{shared}", workspace=here)
    # It is hashed while it is copied: what was right may be there, under its own hash; a version is not.
    assert not (shared / "refs").exists() and all(
        hash_file(blob)[1] == blob.name for blob in (shared / "blobs").iterdir()
    )


def test_manifest_cannot_choose_where_it_is_put(here: Path, there: Path, shared: Path) -> None:
    """A version is a label, never a path: `../../../evil` stays out."""
    folder = here / "adapters/demo/0.1.0"
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "version": "../../../evil"}))
    with pytest.raises(HubError):
        sharing.push("demo", f"folder:{shared}", workspace=here)
    push_unchecked(here, shared)
    with pytest.raises(Integrity):
        sharing.pull(f"folder:{shared}", workspace=there)
    assert names_in(there) == [] and not list(there.parent.rglob("evil*"))


def push_unchecked(here: Path, shared: Path) -> None:
    """What a hostile author would do: the reference is right, the manifest in it is not."""
    from resa_hub.adapter.manifest import read_manifest
    from resa_hub.adapter.store import Adapter
    from resa_hub.config.remotes import RemoteRef
    from resa_hub.hub.remote import open_remote

    folder = here / "adapters/demo/0.1.0"
    good = read_manifest(make_adapter(here / "spare"))
    open_remote(RemoteRef("folder", str(shared))).push(Adapter(good, folder), public=False, dry_run=False)


def test_adapter_that_the_store_lacks(here: Path, shared: Path) -> None:
    with pytest.raises(NotFound):
        sharing.push("nobody", f"folder:{shared}", workspace=here)


def test_a_push_that_sends_nothing_shows_no_table(here: Path, shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["push", "demo", "--to", f"folder:{shared}", "--workspace", str(here)]
    assert run(line) == 0 and "bytes" in capsys.readouterr().out
    assert run(line) == 0 and capsys.readouterr().out.startswith("already at")
