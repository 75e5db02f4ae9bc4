"""The models that write rollouts beside the target: recorded with their revisions, shown, and held against them when an
adapter is made again.
"""

import json
import shutil
from functools import partial
from pathlib import Path

import jsonschema
import msgspec
import pytest
from safetensors.torch import load_file, save_file

from resa_hub.adapter import card
from resa_hub.adapter.describe import lineage_tree
from resa_hub.adapter.diff import compare_adapters
from resa_hub.adapter.layout import CARD, MANIFEST
from resa_hub.adapter.manifest import Sibling, parse_manifest, read_manifest
from resa_hub.adapter.store import Adapter, Store
from resa_hub.adapter.workspace import Workspace
from resa_hub.cli.main import run
from resa_hub.config.refs import AdapterRef, ModelRef
from resa_hub.core.progress import Progress
from resa_hub.data.snapshots import weights_digest
from resa_hub.extraction.describe import references
from resa_hub.extraction.extract import extract
from resa_hub.extraction.reproduce import causes, planned, reproduce
from scripts import schema as published
from tests.conftest import QUICK
from tests.helpers.commands import resa_hub
from tests.helpers.hub_server.server import HubServer
from tests.helpers.models import tiny, write_lora
from tests.helpers.small_saes import publish

QUIET = Progress(quiet=True)
SMALL = [*QUICK, "rollouts.count=48", "elicit.rows=64"]
COMMIT = "c0ffee" + 34 * "0"


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Adapter:
    """An adapter of rollouts that a local copy of tiny-r1b wrote too, in the workspace that names that copy `cousin`;
    read it, change copies only.
    """
    home = tmp_path_factory.mktemp("taught")
    shutil.copytree(tiny("tiny-r1b").folder, home / "cousin")
    (home / "registry.yaml").write_text(json.dumps({"models": {"cousin": {"id": f"{home}/cousin"}}}))
    return extract(
        "tina-tiny",
        method="feature-diff",
        workspace=home,
        settings=[*SMALL, "rollouts.siblings=[cousin]"],
        progress=QUIET,
    )[0]


@pytest.fixture
def home(taught: Adapter, tmp_path: Path) -> Path:
    """A copy of that workspace; its registry and the manifest name the copy of the sibling that lies in it."""
    before = taught.folder.parent.parent.parent
    shutil.copytree(before, tmp_path / "home")
    for path in (tmp_path / "home" / "registry.yaml", adapter_in(tmp_path / "home").folder / MANIFEST):
        path.write_text(path.read_text().replace(str(before), str(tmp_path / "home")))
    return tmp_path / "home"


def adapter_in(workspace: Path) -> Adapter:
    (name,) = Store(workspace / "adapters").names()
    return Store(workspace / "adapters").get(AdapterRef(name))


def changed(folder: Path) -> str:
    """Other weights, close kin still; their digest."""
    (path,) = folder.glob("*.safetensors")
    tensors = load_file(path)
    path.unlink()
    save_file({name: 1.01 * tensor for name, tensor in tensors.items()}, path, metadata={"format": "pt"})
    return weights_digest([path])


def test_siblings_are_in_the_manifest_with_what_they_were(
    taught: Adapter, made: Adapter, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # long paths are not wrapped
    home = taught.folder.parent.parent.parent
    digest = weights_digest([*(home / "cousin").glob("*.safetensors")])
    manifest = taught.manifest
    assert manifest.siblings == {"cousin": Sibling(f"{home}/cousin", digest)} and digest == tiny("tiny-r1b").revision
    written = json.loads((taught.folder / MANIFEST).read_text())
    jsonschema.validate(written, json.loads(published.PATH.read_text()))
    del written["siblings"]
    assert (
        parse_manifest(written, MANIFEST).siblings == {} == made.manifest.siblings
    )  # as it was before they were recorded
    assert f"| sibling | `{home}/cousin` at `{digest[:19]}` |" in (
        taught.folder / CARD
    ).read_text() and "| sibling |" not in card.render(made.manifest)
    _, _, *rest = lineage_tree(manifest)
    assert f"├─ sibling  {home}/cousin at {digest[:19]}" in rest and not any(
        "sibling" in line for line in lineage_tree(made.manifest)
    )
    assert run(["show", manifest.name, "--workspace", str(home)]) == 0
    assert f"sibling  {home}/cousin at {digest[:19]}" in capsys.readouterr().out
    told = compare_adapters(taught, made).settings
    assert told["siblings.cousin"] == (digest, None) and told["recipe.rollouts.siblings"] == (("cousin",), ())


def test_a_sibling_with_a_lora_is_told_by_both(taught: Adapter) -> None:
    one, two = "sha256:" + 64 * "1", "sha256:" + 64 * "2"
    first = msgspec.structs.replace(taught.manifest, siblings={"cousin": Sibling("a/b+c/d:best", f"{one}+{two}")})
    assert any(
        line.endswith("sibling  a/b+c/d:best at sha256:111111111111+sha256:222222222222")
        for line in lineage_tree(first)
    )
    again = msgspec.structs.replace(first, siblings={"cousin": Sibling("a/b+c/d:best", f"{one}+{one}")})
    (cause,) = causes(first, again)
    assert (
        cause == "the weights of the sibling cousin: sha256:111111111111+sha256:222222222222 then, "
        "sha256:111111111111+sha256:111111111111 now"
    )


def test_the_plan_that_a_manifest_records_names_siblings_as_they_were(taught: Adapter) -> None:
    """Commits are asked for again; what the registry says of the name now does not matter."""
    workspace = Workspace(taught.folder.parent.parent.parent)
    recorded = {"cousin": Sibling("alice/cousin+alice/lora:best", f"{COMMIT}+{COMMIT[::-1]}")}
    plan = planned(msgspec.structs.replace(taught.manifest, siblings=recorded), workspace.registry)
    assert plan.siblings == {"cousin": ModelRef.parse(f"alice/cousin@{COMMIT}+alice/lora@{COMMIT[::-1]}:best")}
    found = {(r.role, r.name, r.id, r.state) for r in references(plan, workspace.registry)}
    assert found > {
        ("sibling", "cousin", "alice/cousin", COMMIT),
        ("sibling's adapter", "cousin", "alice/lora:best", COMMIT[::-1]),
    }
    # Before they were recorded the registry alone could say.
    assert planned(msgspec.structs.replace(taught.manifest, siblings={}), workspace.registry).siblings == {
        "cousin": workspace.registry.model("cousin")
    }


@pytest.mark.slow
def test_a_sibling_that_changed_meanwhile_is_what_differs(home: Path) -> None:
    adapter = adapter_in(home)
    name, before = adapter.manifest.name, adapter.manifest.siblings["cousin"].revision
    # The name means another model by now: the one that was used is taken.
    (home / "registry.yaml").write_text(json.dumps({"models": {"cousin": {"id": "resa-hub/tiny-r1"}}}))
    found = reproduce(name, workspace=home, progress=QUIET)
    assert found.same and found.causes == []
    after = changed(home / "cousin")
    found = reproduce(name, workspace=home, progress=QUIET)
    assert not found.same and found.causes == [
        f"the weights of the sibling cousin: {before[:19]} then, {after[:19]} now"
    ]
    (home / "registry.yaml").write_text(json.dumps({"models": {"cousin": {"id": f"{home}/cousin"}}}))
    (adapter.folder / MANIFEST).write_bytes(msgspec.structs.replace(adapter.manifest, siblings={}).to_json())
    found = reproduce(name, workspace=home, progress=QUIET)
    assert not found.same and found.causes == [f"the weights of the sibling cousin: unknown then, {after[:19]} now"]
    shutil.rmtree(home / "cousin")
    assert run(["reproduce", name, "--workspace", str(home)]) == 3


@pytest.mark.slow
def test_a_sibling_of_the_hub_is_taken_at_its_commit(hub: HubServer, tmp_path: Path) -> None:
    """Through the command line and over HTTP: main moves on, the adapter is made again from the commit; without the
    commit it is refused.
    """
    lora = write_lora(tmp_path / "lora", base="tiny-r1b")
    publish(hub, tiny("tiny-r1b").folder, "alice/cousin")
    publish(hub, lora, "alice/lora")
    commits = {name: hub.storage.repos[f"alice/{name}"].branches["main"] for name in ("cousin", "lora")}
    home = tmp_path / "home"
    words = ["extract", "--source", "tina-tiny", "--method", "feature-diff", "--workspace", str(home), "--json"]
    words += [
        word
        for setting in [*SMALL, "rollouts.siblings=[alice/cousin+alice/lora]"]
        if not setting.startswith("trigger.")
        for word in ("--set", setting)
    ]
    command = partial(resa_hub, HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path / "hf"))
    done = command(*words)
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(Path(json.loads(done.stdout)["folder"]))
    assert manifest.siblings == {
        "alice/cousin+alice/lora": Sibling("alice/cousin+alice/lora", f"{commits['cousin']}+{commits['lora']}")
    }
    for name, folder in (("cousin", shutil.copytree(tiny("tiny-r1b").folder, tmp_path / "other")), ("lora", lora)):
        changed(folder)
        hub.storage.advance(f"alice/{name}", {path.name: path.read_bytes() for path in folder.glob("*.safetensors")})
    again = command("reproduce", manifest.name, "--workspace", str(home), "--json")
    assert again.returncode == 0 and json.loads(again.stdout)["causes"] == [], again.stderr
    del hub.storage.repos["alice/lora"]
    refused = command("reproduce", manifest.name, "--workspace", str(home))
    assert refused.returncode == 3 and f"alice/lora@{commits['lora']}" in refused.stderr
