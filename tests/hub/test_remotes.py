"""What all remotes share: search, adapters without their SAE, and a Hub that is slow, moves or lies."""

import json
import subprocess
import time
from pathlib import Path

import pytest

from resa_hub.adapter import card
from resa_hub.adapter.layout import CARD, CONFIG, MANIFEST, WEIGHTS, scan
from resa_hub.adapter.store import Adapter, Store, lacks_sae
from resa_hub.adapter.verify import verify_folder
from resa_hub.adapter.workspace import Workspace
from resa_hub.cli.main import run
from resa_hub.config.refs import AdapterRef
from resa_hub.core.errors import Conflict, HubError, NotFound, Usage
from resa_hub.hub import sharing
from tests.helpers.adapters import make_adapter
from tests.helpers.commands import HANG
from tests.helpers.hub_server.fixtures import OTHER_TOKEN, REMOTE, REPO
from tests.helpers.hub_server.server import HubServer

VERDICT = {
    "verdict": "transferred",
    "sentence": "Better.",
    "target": "tiny-r1",
    "benchmark": "tiny-chain",
    "split": "test",
    "samples": 4,
    "arms": [{"role": "adapter", "score": 91.2}],
}


def described(folder: Path, name: str = "judged") -> Path:
    """A workspace whose adapter carries a verdict, also in its card."""
    made = make_adapter(folder / "adapters", name, evals={"tiny-r1--tiny-chain--test.json": VERDICT})
    (made / CARD).write_text(card.render(Store(folder / "adapters").get(AdapterRef(name)).manifest, [VERDICT]))
    return folder


def test_search_by_base_tag_and_verdict_on_the_hub(hub: HubServer, tmp_path: Path) -> None:
    sharing.push("judged", "hf:alice/judged", workspace=described(tmp_path / "one"), public=True)
    sharing.push("demo", "hf:alice/plain", workspace=described(tmp_path / "two", "demo"), public=True)
    found = sharing.search("hf", base="tiny-r1", verdict="transferred", text="judged", workspace=tmp_path)
    assert [(each.ref, each.base, each.method, each.verdicts) for each in found] == [
        ("hf:alice/judged", "resa-hub/tiny-r1", "logit-distill", ("transferred on tiny-r1, tiny-chain",))
    ]
    assert len(sharing.search("hf", tag="logit-distill", workspace=tmp_path)) == 2
    assert (
        sharing.search("hf", verdict="harmful", workspace=tmp_path) == []
        and sharing.search("hf", base="o/other", workspace=tmp_path) == []
    )
    assert sharing.search("hf:alice/judged", workspace=tmp_path)[0].ref == "hf:alice/judged"
    assert not hub.sent("GET", "/resolve/")


def test_search_in_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    remote = f"folder:{tmp_path}/remote"
    for number, name in enumerate(("judged", "demo")):
        sharing.push(name, remote, workspace=described(tmp_path / str(number), name))
    assert (
        run(
            [
                "search",
                "--in",
                remote,
                "--base",
                "tiny-r1",
                "--verdict",
                "transferred",
                "--json",
                "--workspace",
                str(tmp_path),
            ]
        )
        == 0
    )
    assert [each["name"] for each in json.loads(capsys.readouterr().out)["adapters"]] == ["demo", "judged"]
    (found,) = sharing.search(remote, text="judg", workspace=tmp_path)
    assert sharing.pull(found.ref, workspace=tmp_path / "there").adapter.manifest.name == "judged"
    with pytest.raises(NotFound):
        sharing.search(f"folder:{tmp_path}/nowhere", workspace=tmp_path)


@pytest.mark.parametrize("kind", ["folder", "hf", "oci"])
def test_an_adapter_travels_without_its_sae_and_is_completed_later(
    made: Adapter, workspace: Path, tmp_path: Path, hub: HubServer, registry: str, kind: str
) -> None:
    name, remote = (
        made.manifest.name,
        {"folder": f"folder:{tmp_path}/remote", "hf": REMOTE, "oci": f"oci://{registry}/team/sae-{tmp_path.name}"}[
            kind
        ],
    )
    sharing.push(name, remote, workspace=workspace)
    there = Workspace.find(tmp_path / "there")
    part = sharing.pull(remote, workspace=there.folder, sae=False)
    assert part.new and lacks_sae(part.adapter)
    assert verify_folder(part.adapter.folder).content_hash == made.manifest.content_hash
    assert run(["attach", name, "--target", "tiny-r1", "--workspace", str(there.folder)]) == 0
    with pytest.raises(Usage, match="without its SAE"):
        sharing.push(name, remote, workspace=there.folder)
    whole = sharing.pull(remote, workspace=there.folder)
    assert (
        not whole.new
        and not lacks_sae(whole.adapter)
        and scan(whole.adapter.folder) == scan(workspace / "adapters" / name / "0.1.0")
    )


@pytest.mark.parametrize("kind", ["folder", "hf", "oci"])
def test_a_push_without_sae_keeps_it_at_home(
    made: Adapter, workspace: Path, tmp_path: Path, hub: HubServer, registry: str, kind: str
) -> None:
    name, remote = (
        made.manifest.name,
        {"folder": f"folder:{tmp_path}/remote", "hf": REMOTE, "oci": f"oci://{registry}/team/less-{tmp_path.name}"}[
            kind
        ],
    )
    done = sharing.push(name, remote, workspace=workspace, sae=False)
    assert done.changed and not any(entry.path.startswith("sae/") for entry in done.sent)
    assert lacks_sae(sharing.pull(remote, workspace=tmp_path / "there").adapter)
    assert not sharing.push(name, remote, workspace=workspace, sae=False).changed
    assert sharing.push(
        name, remote, workspace=workspace
    ).changed  # now with it: the version's bytes are the same adapter
    assert not lacks_sae(sharing.pull(remote, workspace=tmp_path / "third").adapter)
    assert not sharing.push(name, remote, workspace=workspace, sae=False).changed  # what is there stays
    assert not lacks_sae(sharing.pull(remote, workspace=tmp_path / "fourth").adapter)


def test_a_head_that_moves_is_no_harm(hub: HubServer, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's file lands between our reading of the head and our commit: twice the push starts again, and it
    lands.
    """
    from resa_hub.hub.huggingface import HubRemote

    commit, moves = HubRemote._commit, [0]

    def after_somebody(self: HubRemote, *arguments: object) -> str:
        if moves[0] < 2:
            moves[0] += 1
            hub.storage.advance(REPO, {f"evals/other-{moves[0]}.json": json.dumps(VERDICT).encode()})
        return commit(self, *arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(HubRemote, "_commit", after_somebody)
    done = sharing.push("demo", REMOTE, workspace=here)
    assert done.changed and moves == [2] and sharing.pull(f"{REMOTE}@v0.1.0", workspace=there).new


def test_a_slow_line_only_takes_time(hub: HubServer, pushed: sharing.PushResult, there: Path) -> None:
    hub.slow = 0.05
    began = time.monotonic()
    assert sharing.pull(REMOTE, workspace=there).new
    assert time.monotonic() - began > 0.2  # the line was slow indeed


@pytest.mark.slow
def test_a_transfer_cut_in_the_middle_leaves_nothing(hub: HubServer, pushed: sharing.PushResult, there: Path) -> None:
    hub.cut_files = True
    with pytest.raises(HubError) as raised:
        sharing.pull(REMOTE, workspace=there)
    assert raised.value.exit_code in (5, 7) and Store(there / "adapters").names() == []
    hub.cut_files = False
    assert sharing.pull(REMOTE, workspace=there).new


def test_a_moved_tag_is_seen(hub: HubServer, pushed: sharing.PushResult, here: Path, there: Path) -> None:
    """The version's tag was moved to other bytes of the same version: whoever holds the version already is told."""
    sharing.pull(REMOTE, workspace=there)
    make_adapter(here.parent / "evil" / "adapters", "demo", "0.1.0", seed=66)
    other = here.parent / "evil" / "adapters" / "demo" / "0.1.0"
    head = hub.storage.advance(REPO, {name: (other / name).read_bytes() for name in (WEIGHTS, CONFIG, MANIFEST)})
    hub.storage.repos[REPO].tags["v0.1.0"] = head or hub.storage.repos[REPO].branches["main"]
    with pytest.raises(Conflict, match="other bytes"):
        sharing.pull(f"{REMOTE}@v0.1.0", workspace=there)
    with pytest.raises(Conflict, match="other bytes"):
        sharing.push("demo", REMOTE, workspace=here)


@pytest.mark.slow
def test_the_hubs_own_command_line_works_against_the_test_hub(
    hub: HubServer, pushed: sharing.PushResult, tmp_path: Path
) -> None:
    import os
    import sys

    env = os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": OTHER_TOKEN,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_XET": "1",
    }
    program = str(Path(sys.executable).with_name("hf"))

    def hf(*arguments: str, token: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, *arguments], env=env | {"HF_TOKEN": token}, capture_output=True, text=True, timeout=HANG
        )

    from tests.helpers.hub_server.fixtures import TOKEN

    assert "alice" in hf("auth", "whoami", token=TOKEN).stdout
    done = hf("download", REPO, "--revision", "v0.1.0", "--local-dir", str(tmp_path / "plain"), token=TOKEN)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "plain" / WEIGHTS).read_bytes() == hub.storage.get(hub.storage.tree(REPO)[WEIGHTS].sha256)
    env["HF_HOME"] = str(tmp_path / "other")  # from the cache of before it would serve a stranger without asking
    assert hf("download", REPO, "--local-dir", str(tmp_path / "no"), token=OTHER_TOKEN).returncode != 0  # private
