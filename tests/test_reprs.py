"""How results show themselves in Python: a line, small HTML in a notebook; strangers' texts stay texts."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

import resa_hub
from resa_hub.adapter.results import ArmResult, Evaluation, Sweep, SweepPoint
from resa_hub.adapter.store import Adapter, Store
from resa_hub.config.refs import AdapterRef
from resa_hub.core.notebook import LONGEST, Listing
from resa_hub.evaluation.matrix import Cell, Matrix
from resa_hub.hub.remote import PushResult, SearchHit
from resa_hub.hub.resolve import PullResult
from tests.helpers import needs
from tests.helpers.adapters import make_adapter
from tests.helpers.evaluations import again as again

HOSTILE = '<script>alert("1")</script>\u202e\n<img src=x onerror=alert(1)>'


class Seen(HTMLParser):
    """The elements and attributes of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def evaluation(text: str = "tiny-r1", verdict: str = "transferred") -> Evaluation:
    arms = [ArmResult(name=name, role=name, score=50.0, score_ci=(45.0, 55.0)) for name in ("base", "adapter")]
    return Evaluation(
        adapter=f"demo-1@0.1.0{'' if text == 'tiny-r1' else text}",
        target=text,
        benchmark=text,
        split=text,
        problems=40,
        samples=2,
        verdict=verdict,
        sentence=text,
        gain=12.0,
        gain_ci=(8.0, 16.0),
        margin=2.0,
        arms=arms,
        notes=[text],
    )


@pytest.fixture
def adapter(tmp_path: Path) -> Adapter:
    document = msgspec.to_builtins(evaluation())
    make_adapter(tmp_path / "adapters", "demo-1", evals={"a.json": document})
    return Store(tmp_path / "adapters").get(AdapterRef("demo-1"))


def test_an_adapter_is_a_line(adapter: Adapter, tmp_path: Path) -> None:
    manifest = adapter.manifest
    assert repr(adapter) == "<Adapter demo-1@0.1.0 logit-distill on tiny-r1, 655 bytes, transferred on tiny-r1>"
    assert repr(resa_hub.adapters(workspace=tmp_path)) == f"[{adapter!r}]"
    assert resa_hub.adapters(verdict="harmful", workspace=tmp_path) == []
    assert resa_hub.adapters(verdict="transferred", method=manifest.method, workspace=tmp_path) == [adapter]


def test_an_adapter_whose_evaluations_are_broken_still_shows(adapter: Adapter) -> None:
    for path in (adapter.folder / "evals").iterdir():
        path.unlink()
        path.write_text("{")
    assert repr(adapter).endswith("not judged>") and "demo-1" in adapter._repr_html_()


def shown(adapter: Adapter, text: str) -> list[Any]:
    """One of everything that a notebook shows, with this text wherever a stranger's may stand."""
    point = SweepPoint(layer=1, seed=0, adapter=text, gain=1.0, gain_ci=(0.0, 2.0), verdict=text)
    sweep = Sweep(
        method=text, source=text, target=text, benchmark=text, split=text, problems=2, samples=2, places=[point],
        sentence=text,
    )  # fmt: skip
    cell = Cell(text, text, text, fit="exact", verdict=text, sentence=text, gain=1.0, gain_ci=(0.0, 2.0))
    base = msgspec.structs.replace(adapter.manifest.base, id=text)
    mine = Adapter(msgspec.structs.replace(adapter.manifest, base=base, source=text, method=text), Path(text))
    hit = SearchHit(text, text, text, text, (text,), (text,), text)
    return [
        mine,
        Listing([mine, mine]),
        evaluation(text, text),
        Listing([evaluation(text, text)]),
        sweep,
        Listing(sweep.places),
        Matrix([text], [text], [text], 2, [cell], text),
        Listing([cell]),
        Listing([hit]),
        PushResult(text, adapter.manifest.files, True, (text,)),
        PullResult(mine, text, True),
    ]


def test_texts_of_strangers_stay_texts(adapter: Adapter) -> None:
    for value in shown(adapter, HOSTILE):
        html = value._repr_html_()
        seen = Seen(html)
        assert seen.tags <= {"div", "strong", "table", "thead", "tbody", "tr", "th", "td", "span", "br"}, type(value)
        assert seen.attributes <= {"style", "title"} and "\u202e" not in html
        assert "<script>alert" in seen.text
        assert repr(value).count("\n") == (len(value) - 1 if isinstance(value, Listing) else 0)


def test_nothing_of_a_page_is_loaded_from_elsewhere(adapter: Adapter) -> None:
    for value in shown(adapter, "tiny"):
        assert "url(" not in value._repr_html_() and "http" not in value._repr_html_()


def test_a_long_text_is_cut_and_whole_in_its_title() -> None:
    html = evaluation("x" * (LONGEST + 50))._repr_html_()
    assert f"{'x' * LONGEST}…<" in html and f'title="{"x" * (LONGEST + 50)}"' in html


def test_a_list_is_a_table_with_a_row_each(adapter: Adapter) -> None:
    listing = Listing([adapter, adapter])
    assert listing._repr_html_().count("<tr>") == 3 and repr(listing).count("\n") == 1
    assert Seen(Listing([1, "a"])._repr_html_()).text == "1'a'"
    assert Listing([])._repr_html_() == "<em>nothing</em>"


@pytest.mark.parametrize("dark", [False, True])
def test_a_notebook_can_be_read_in_both_schemes(adapter: Adapter, tmp_path: Path, dark: bool) -> None:
    needs.program("chromium")
    from tests.helpers.browser import CONTRAST, chromium

    words = ("transferred", "harmful", "underpowered", "identical to base", "not distinguishable from controls")
    html = "".join(value._repr_html_() for word in words for value in shown(adapter, word))
    page = tmp_path / "page.html"
    colours = "background:#111;color:#eee" if dark else "background:#fff;color:#111"
    page.write_text(f'<!doctype html><meta charset="utf-8"><body style="{colours}">{html}')
    with chromium() as browser:
        browser.open(page, dark=dark)
        seen, poor = browser.js(CONTRAST)
    assert seen > 100 and poor == []
