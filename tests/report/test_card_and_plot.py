"""Plots, and the card that shows them under the verdicts."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from resa_hub.adapter.layout import CARD, MAX_PLOT, scan
from resa_hub.adapter.results import (
    read_evaluation,
)
from resa_hub.adapter.store import Store
from resa_hub.adapter.verify import verify_folder
from resa_hub.config.refs import AdapterRef
from resa_hub.config.remotes import RemoteRef
from resa_hub.core.errors import Integrity
from resa_hub.evaluation.save import save_evaluation
from resa_hub.hub import sharing
from resa_hub.hub.remote import open_remote
from resa_hub.report import markdown, plot
from tests.helpers.reports import HOSTILE, raw

NAME = "tina-tiny-feature-diff-l2"


def test_plot_is_a_small_picture_whatever_the_names() -> None:
    content = raw() | {"target": "$\\frac{1}{$ \u202e" + "long " * 40, "verdict": "$x", "adapter": "\u4e2d\u6587"}
    for document in (content, raw() | {"arms": raw()["arms"] * 40}):
        picture = plot.draw(read_evaluation(document, "x"))
        assert picture.startswith(b"\x89PNG") and 5_000 < len(picture) < MAX_PLOT / 4


def test_plot_has_two_pixels_for_each_of_the_page() -> None:
    picture = plot.draw(read_evaluation(raw(), "x"))
    assert int.from_bytes(picture[16:20], "big") == 2 * plot.WIDTH


def test_many_plots_of_a_card_are_folded() -> None:
    evaluation = read_evaluation(raw() | {"target": HOSTILE}, "x")
    for count, folded in ((3, False), (4, True)):
        text = markdown.plots([(evaluation, f"evals/{number}.png") for number in range(count)] + [(evaluation, "")])
        assert text.count("<img src=") == count and ("<details>" in text) == folded
        assert "<script" not in text and "<img src=x" not in text
        assert not re.search(r'alt="[^"]*onerror=', text)


def test_verdict_is_kept_with_its_plot_and_shown_on_the_card(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = Store(example / "adapters").get(AdapterRef(NAME))
    (adapter.folder / "evals/strange.json").write_text(
        json.dumps({"verdict": "x", "sentence": "x", "target": "t", "benchmark": "b", "split": "s"})
    )
    result = read_evaluation(raw(), "x")
    path = save_evaluation(adapter, result)
    png = path.with_suffix(".png")
    assert path.name == "tiny-r1--tiny-chain--test.json" and json.loads(path.read_text())["gain"] == 50.8
    card = (adapter.folder / CARD).read_text()
    assert (
        f'<img src="evals/{png.name}" width="{plot.WIDTH}" alt="All arms: base: tiny-r1 46.2%' in card
        and "**transferred** on tiny-r1," in card
        and "**transferred** on tiny-r1b," in card
        and "**x**" not in card
    )
    # Under the title the verdict, then what to do, then what it is.
    assert card.partition("# tina-tiny-feature-diff-l2 0.1.0\n\n")[2].startswith("- **transferred** on tiny-r1,")
    places = [card.index(part) for part in ("**transferred**", "## Use", "## All arms", "## What it is", "## Limits")]
    assert places == sorted(places)
    assert verify_folder(adapter.folder).content_hash == adapter.manifest.content_hash
    before = png.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(plot, "draw", lambda _: pytest.fail("drawn again"))
        save_evaluation(adapter, msgspec.structs.replace(result, created="later", seconds=1.0))
    assert png.read_bytes() == before
    save_evaluation(adapter, msgspec.structs.replace(result, gain=10.0))
    assert (
        png.read_bytes() != before
        and [p.suffix for p in (adapter.folder / "evals").iterdir() if p.suffix not in (".json", ".png")] == []
    )


def test_plots_travel_and_what_is_none_is_refused(example: Path, tmp_path: Path) -> None:
    folder = Store(example / "adapters").get(AdapterRef(NAME)).folder
    (folder / "evals/tiny-r1--tiny-chain--test.png").write_bytes(plot.draw(read_evaluation(raw(), "x")))
    sharing.push(NAME, f"folder:{tmp_path / 'shared'}", workspace=example)
    (seen,) = open_remote(RemoteRef.parse(f"folder:{tmp_path / 'shared'}")).search()
    assert len(seen.verdicts) == 2
    there = sharing.pull(f"folder:{tmp_path / 'shared'}", workspace=tmp_path / "there").adapter
    assert (there.folder / "evals/tiny-r1--tiny-chain--test.png").read_bytes() == (
        folder / "evals/tiny-r1--tiny-chain--test.png"
    ).read_bytes()
    for content in (b"<svg onload=alert(1)>", b"\x89PNG\r\n\x1a\n" + b"0" * MAX_PLOT):
        (there.folder / "evals/tiny-r1--tiny-chain--test.png").write_bytes(content)
        with pytest.raises(Integrity, match=r"tiny-chain--test\.png"):
            scan(there.folder)
