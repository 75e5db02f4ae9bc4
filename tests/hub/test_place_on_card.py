"""The card in a repository of the Hub says which repository it is."""

from pathlib import Path

import pytest

from resa_hub.adapter import card
from resa_hub.adapter.layout import CARD
from resa_hub.adapter.manifest import read_manifest
from resa_hub.adapter.store import Adapter
from resa_hub.adapter.workspace import Workspace
from resa_hub.config.refs import AdapterRef
from resa_hub.core.errors import Conflict
from resa_hub.hub import sharing
from tests.helpers.adapters import make_adapter
from tests.helpers.commands import ROOT
from tests.helpers.hub_server.fixtures import REMOTE, REPO
from tests.helpers.hub_server.server import HubServer


def with_card(here: Path) -> Adapter:
    adapter = Workspace.find(here).store.get(AdapterRef("demo"))
    (adapter.folder / CARD).write_text(card.render(adapter.manifest))
    return adapter


def test_pushed_card_names_its_repository(hub: HubServer, here: Path, there: Path) -> None:
    adapter = with_card(here)
    assert card.place_of((adapter.folder / CARD).read_text()) == ""
    sharing.push("demo", REMOTE, workspace=here)
    there_card = hub.storage.get(hub.storage.tree(REPO)[CARD].sha256).decode()
    assert f"resa-hub pull hf:{REPO}@v0.1.0" in there_card and card.place_of(there_card) == REPO
    assert f'PeftModel.from_pretrained(base, "{REPO}", revision="v0.1.0")' in there_card
    assert not sharing.push("demo", REMOTE, workspace=here).changed
    # What was pulled knows where it is from, also when its card is made again.
    pulled = sharing.pull(REMOTE, workspace=there).adapter
    again = card.render(pulled.manifest, present=(pulled.folder / CARD).read_text())
    assert card.place_of(again) == REPO


def test_card_is_as_it_was_where_nothing_was_pushed(hub: HubServer, here: Path, tmp_path: Path) -> None:
    sharing.push("demo", REMOTE, workspace=here)
    make_adapter(tmp_path / "other/adapters", "demo", seed=1)
    adapter = with_card(tmp_path / "other")
    before = (adapter.folder / CARD).read_bytes()
    with pytest.raises(Conflict):
        sharing.push("demo", REMOTE, workspace=tmp_path / "other")
    sharing.push("demo", "hf:alice/elsewhere", workspace=tmp_path / "other", dry_run=True)
    sharing.push("demo", f"folder:{tmp_path / 'shared'}", workspace=tmp_path / "other")
    assert (adapter.folder / CARD).read_bytes() == before


def test_a_card_of_before_or_of_a_person_is_left_alone() -> None:
    manifest = read_manifest(ROOT / "adapters/tina-tiny-feature-diff-l2/0.1.0")
    for text in ("# mine\n", "resa-hub pull hf:o/n@v1\n", ""):
        assert card.placed(text, manifest, "me/mine") == text and card.place_of(text) == ""
