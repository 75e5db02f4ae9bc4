"""A stranger's adapter: every trick is refused by name with exit code 5, and nothing is left outside the staging
folder.
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from resa_hub.adapter.fit import read_lora
from resa_hub.adapter.layout import CARD, CONFIG, MANIFEST, WEIGHTS, content_hash, identity_of, scan
from resa_hub.adapter.manifest import parse_manifest
from resa_hub.adapter.staging import STAGING
from resa_hub.adapter.store import Store
from resa_hub.adapter.untrusted import check_card, check_config, check_files, check_names
from resa_hub.adapter.verify import verify_folder
from resa_hub.cli.main import run
from resa_hub.config.remotes import parse_adapter
from resa_hub.core.errors import HubError, Integrity, NoEffect
from resa_hub.core.files import parse_json
from resa_hub.core.strict import canonical_digest
from resa_hub.core.tensors import safetensors_header
from tests.helpers import needs
from tests.helpers.adapters import make_adapter
from tests.helpers.commands import HANG

ROOT = Path(__file__).parents[2]


@pytest.fixture(name="folder")
def an_adapter(tmp_path: Path) -> Path:
    """A copy of a sound adapter, outside any store."""
    made = make_adapter(tmp_path / "maker" / "adapters")
    return Path(shutil.copytree(made, tmp_path / "stranger"))


def rehash(folder: Path) -> None:
    """Make the manifest vouch for what lies there now, as a hostile author would."""
    manifest = json.loads((folder / MANIFEST).read_text())
    files = identity_of(scan(folder))
    manifest["files"] = [{"path": e.path, "size": e.size, "sha256": e.sha256} for e in files]
    manifest["content_hash"] = content_hash(files)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def config(folder: Path, **changes: Any) -> None:
    path = folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def weights(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def header(folder: Path, change: Callable[[dict[str, Any]], Any], claim: int | None = None) -> None:
    """Write the weights with another header in front of the same data."""
    data = (folder / WEIGHTS).read_bytes()
    length = int.from_bytes(data[:8], "little")
    content = json.loads(data[8 : 8 + length])
    new = json.dumps(change(content) or content).encode()
    (folder / WEIGHTS).write_bytes((claim or len(new)).to_bytes(8, "little") + new + data[8 + length :])


def overlap(content: dict[str, Any]) -> None:
    one, two = [key for key in content if key != "__metadata__"]
    content[two]["data_offsets"] = content[one]["data_offsets"]
    content[two]["shape"] = content[one]["shape"]


def fill(value: float) -> Callable[[dict[str, Any]], None]:
    def change(tensors: dict[str, Any]) -> None:
        name = next(iter(tensors))
        tensors[name] = numpy.full_like(tensors[name], value)

    return change


HARM: dict[str, Callable[[Path], Any]] = {
    "a pickle": lambda f: (f / "adapter_model.bin").write_bytes(b"\x80\x04"),
    "python": lambda f: (f / "modeling.py").write_text("print()"),
    "a hidden file": lambda f: (f / ".env").write_text("TOKEN=1"),
    "a link": lambda f: (f / "evals").mkdir() or os.symlink("/etc/hostname", f / "evals" / "a.json"),
    "a linked folder": lambda f: os.symlink("/etc", f / "evals"),
    "a linked card": lambda f: (f / CARD).unlink() or os.symlink("/etc/hostname", f / CARD),
    "a pipe": lambda f: (f / "evals").mkdir() or os.mkfifo(f / "evals" / "a.json"),
    "names that differ in case": lambda f: (
        (f / "evals").mkdir() or [(f / "evals" / name).write_text("{}") for name in ("a.json", "A.json")]
    ),
    "a device's name": lambda f: (f / "evals").mkdir() or (f / "evals" / "CON.json").write_text("{}"),
    "a name in other letters": lambda f: (f / "evals").mkdir() or (f / "evals" / "\u0430.json").write_text("{}"),
    "NaN": lambda f: weights(f, fill(float("nan"))),
    "infinity": lambda f: weights(f, fill(float("inf"))),
    "a huge rank": lambda f: config(f, r=1 << 20),
    "a rank that is no number": lambda f: config(f, r="2"),
    "a config that points to code": lambda f: config(f, auto_mapping={"base_model_class": "X", "parent_library": "os"}),
    "a config that imports": lambda f: config(f, megatron_config={"a": 1}, megatron_core="os"),
    "a config that is a list": lambda f: (f / CONFIG).write_text("[]"),
    "a key twice": lambda f: (f / CONFIG).write_text('{"r": 2, "r": 4}'),
    "deep JSON": lambda f: (f / CONFIG).write_text("[" * 200_000),
    "long JSON": lambda f: (f / CONFIG).write_text(json.dumps({"r": "1" * (9 << 20)})),
    "a number of a million digits": lambda f: (f / CONFIG).write_text('{"r": ' + "9" * 1_000_000 + "}"),
    "NaN in JSON": lambda f: (f / CONFIG).write_text('{"r": NaN}'),
    "a header of 10 GB": lambda f: header(f, lambda _: None, claim=10 << 30),
    "tensors that overlap": lambda f: header(f, overlap),
    "a tensor of negative size": lambda f: header(
        f, lambda c: next(v for k, v in c.items() if k != "__metadata__").update(shape=[-2, 16])
    ),
    "a shape of a million dimensions": lambda f: header(
        f, lambda c: next(v for k, v in c.items() if k != "__metadata__").update(shape=[1] * 1_000_000)
    ),
    "a header that is a list": lambda f: header(f, lambda _: ["x"]),
    "bytes behind the last tensor": lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes() + b"PK"),
    "a card with a script": lambda f: (f / CARD).write_text("# Demo\n<script src='//x'></script>"),
    "a card with a handler": lambda f: (f / CARD).write_text('# Demo\n<img src=x onerror="alert(1)">'),
    "a card with a link that runs": lambda f: (f / CARD).write_text("[click](javascript:alert(1))"),
    "a card that turns text": lambda f: (f / CARD).write_text("# gpj.\u202eexe"),
}


@pytest.mark.parametrize("what", HARM)
def test_every_trick_is_refused(folder: Path, tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Through the door that strangers use: a shared folder whose reference vouches for everything that lies there."""
    HARM[what](folder)
    remote = tmp_path / "remote"
    smuggle(folder, remote)
    there = tmp_path / "there"
    code = run(["pull", f"folder:{remote}#demo", "--workspace", str(there)])
    said = capsys.readouterr().err
    assert code == 5 and said.startswith("error: ") and "Traceback" not in said
    assert len(said.strip().splitlines()) <= 2
    assert Store(there / "adapters").names() == [] and not list((there / "adapters" / STAGING).glob("*"))
    assert not list(there.rglob("*.py")) and not list(there.rglob("*.bin"))


def smuggle(folder: Path, remote: Path) -> None:
    """A remote's blobs and reference, written by hand: names, sizes and hashes are all as promised."""
    blobs = remote / "blobs"
    blobs.mkdir(parents=True)
    paths = sorted(path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    entries = [smuggled(path, path.relative_to(folder).as_posix(), blobs) for path in paths]
    manifest = json.loads((folder / MANIFEST).read_text())
    files = [entry for entry in entries if entry["path"] in (WEIGHTS, CONFIG)]
    identity = canonical_digest(sorted([entry["path"], entry["size"], entry["sha256"]] for entry in files))
    manifest |= {"files": files, "content_hash": identity}
    entries = [entry for entry in entries if entry["path"] != MANIFEST]
    entries.append(blob(json.dumps(manifest).encode(), MANIFEST, blobs))
    reference = {"schema": 1, "name": "demo", "version": "0.1.0", "content_hash": identity, "files": entries}
    (remote / "refs" / "demo").mkdir(parents=True)
    (remote / "refs" / "demo" / "0.1.0.json").write_text(json.dumps(reference))


def smuggled(path: Path, name: str, blobs: Path) -> dict[str, Any]:
    """A file among the blobs and its entry; a pipe or a link is put there as what it is."""
    if not path.is_fifo() and not path.is_symlink():
        return blob(path.read_bytes(), name, blobs)
    digest = hashlib.sha256(name.encode()).hexdigest()
    if path.is_fifo():
        os.mkfifo(blobs / digest)
    else:
        os.symlink(os.readlink(path), blobs / digest)
    # Folders that are links have no allowed name of their own.
    return {
        "path": name if name.endswith(".json") or name == CARD else f"{name}/a.json",
        "size": 1,
        "sha256": digest,
    }


def blob(data: bytes, name: str, blobs: Path) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return {"path": name, "size": len(data), "sha256": digest}


def test_the_smuggled_adapter_is_sound_but_for_the_trick(folder: Path, tmp_path: Path) -> None:
    """Else the test above would refuse everything."""
    smuggle(folder, tmp_path / "remote")
    assert run(["pull", f"folder:{tmp_path / 'remote'}#demo", "--workspace", str(tmp_path / "there")]) == 0


@pytest.mark.parametrize(
    "what",
    [
        "NaN",
        "a huge rank",
        "a config that points to code",
        "a config that imports",
        "tensors that overlap",
        "a header of 10 GB",
    ],
)
def test_an_import_is_held_against_the_same(folder: Path, tmp_path: Path, what: str) -> None:
    HARM[what](folder)
    assert run(["import", str(folder), "--workspace", str(tmp_path / "there")]) == 5
    assert Store(tmp_path / "there" / "adapters").names() == []


@pytest.mark.parametrize("key", ["name", "source", "hookpoint"])
def test_a_manifest_whose_names_turn_text_is_refused(folder: Path, key: str) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest[key] = "safe\u202egnp"
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(Integrity, match="202E"):
        check_files(folder)


def test_a_text_of_another_script_is_no_harm(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["probe"]["texts"] = ["\u200fשלום 1+1=", "👩‍🔬"]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    (folder / CARD).write_text(
        "# نموذج 👩‍🔬\n\nA price of $5 <b>bold</b>, on time=now; see [data](https://example.org/data:text).\n"
    )
    check_files(folder)
    assert verify_folder(folder)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)
MANY = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)


@MANY
@given(JSON)
def test_any_document_as_a_manifest_gets_one_clear_error(content: Any) -> None:
    with pytest.raises(Integrity):
        parse_manifest(content, MANIFEST)


@MANY
@given(st.data())
def test_a_manifest_with_any_part_replaced(made_manifest: dict[str, Any], data: st.DataObject) -> None:
    content: Any = json.loads(json.dumps(made_manifest))
    part, key = content, data.draw(st.sampled_from(sorted(content)))
    while isinstance(part[key], dict) and part[key] and data.draw(st.booleans()):
        part = part[key]
        key = data.draw(st.sampled_from(sorted(part)))
    part[key] = data.draw(JSON)
    with contextlib.suppress(HubError):
        parse_manifest(content, MANIFEST)


@pytest.fixture(scope="module")
def made_manifest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return json.loads((make_adapter(tmp_path_factory.mktemp("m") / "adapters") / MANIFEST).read_text())


@MANY
@given(JSON)
def test_any_document_as_a_config(content: Any) -> None:
    with contextlib.suppress(Integrity):
        check_config(content)


@MANY
@given(st.data())
def test_any_bytes_as_weights(scratch: Path, data: st.DataObject) -> None:
    """A sound file with a few bytes changed, cut or added; and bytes of any kind."""
    sound = (scratch / "sound").read_bytes()
    if data.draw(st.booleans()):
        changed = bytearray(sound)
        for _ in range(data.draw(st.integers(1, 6))):
            changed[data.draw(st.integers(0, min(len(changed) - 1, 400)))] = data.draw(st.integers(0, 255))
        content = (
            bytes(changed[: data.draw(st.integers(0, len(changed)))]) if data.draw(st.booleans()) else bytes(changed)
        )
    else:
        content = data.draw(st.binary(max_size=300))
    (scratch / WEIGHTS).write_bytes(content)
    try:
        safetensors_header(scratch / WEIGHTS)
        read_lora(scratch)
    except (Integrity, NoEffect):
        pass


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_adapter(tmp_path_factory.mktemp("s") / "adapters")
    folder = tmp_path_factory.mktemp("scratch")
    shutil.copyfile(made / WEIGHTS, folder / "sound")
    shutil.copyfile(made / CONFIG, folder / CONFIG)
    return folder


@MANY
@given(st.binary(max_size=200))
def test_any_bytes_as_json_and_card(content: bytes) -> None:
    for reader in (lambda: parse_json(content, "x"), lambda: check_card(content)):
        with contextlib.suppress(Integrity):
            reader()


@MANY
@given(st.lists(st.text(min_size=1, max_size=8), max_size=6), st.text(max_size=40))
def test_any_names_and_references(names: list[str], text: str) -> None:
    for reader in (lambda: check_names(names), lambda: parse_adapter(text)):
        with contextlib.suppress(HubError):
            reader()


@pytest.mark.slow
@pytest.mark.parametrize("target", ["manifest", "config", "header", "reference"])
def test_coverage_guided_fuzzing_finds_nothing(tmp_path: Path, target: str) -> None:
    """atheris: no traceback, no input that hangs, memory bounded."""
    needs.package("atheris", "fuzz")
    command = [
        sys.executable,
        "-m",
        "tests.helpers.fuzz",
        target,
        "-runs=8000",
        "-max_len=2048",
        "-timeout=60",
        "-rss_limit_mb=0",
        f"-artifact_prefix={tmp_path}/",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Done 8000" in done.stderr
