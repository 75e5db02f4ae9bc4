"""The page in a real browser, as a reader sees it: the verdict first, folds, a phone, paper."""

from pathlib import Path

import pytest

from tests.helpers.browser import CONTRAST, DESKTOP, PHONE, Browser

pytestmark = pytest.mark.slow
BROKEN_WORDS = """
const broken = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode, text = node.textContent;
  if (!node.parentElement.closest("td, th, dt, dd, summary, h1, h2, h3")) continue;
  const place = (at) => {
    const range = document.createRange();
    range.setStart(node, at); range.setEnd(node, at + 1);
    const [box] = range.getClientRects();
    return box && box.width ? box.top : null;
  };
  for (let at = 1; at < text.length; at++) {
    if (!/[\\w]/.test(text[at - 1]) || !/[\\w]/.test(text[at])) continue;
    const [before, after] = [place(at - 1), place(at)];
    if (before !== null && after !== null && after > before + 4) { broken.push(text.slice(0, 60)); break; }
  }
}
return broken;
"""
"""Texts of tables and headings that go on in the next line inside a word."""


@pytest.mark.parametrize("name", ["single", "several", "bare"])
def test_a_phone_scrolls_down_only(browser: Browser, pages: dict[str, Path], name: str) -> None:
    browser.open(pages[name], width=PHONE)
    browser.js("document.querySelectorAll('details').forEach((details) => (details.open = true))")
    assert browser.js("return [document.documentElement.scrollWidth, window.innerWidth]") == [PHONE, PHONE]
    wide = browser.js("""const right = (e) => e.getBoundingClientRect().right;
        const out = (e) => right(e) > innerWidth + 1 && !e.closest('.scroll, .list, pre');
        return [...document.querySelectorAll('main *')].filter(out).map((e) => e.outerHTML.slice(0, 80))""")
    assert wide == []
    small = browser.js("""const fields = document.querySelectorAll('main button, main select, main input[type=search]');
        return [...fields].filter((e) => e.offsetHeight && e.offsetHeight < 24).length""")
    assert small == 0


@pytest.mark.parametrize("width", [PHONE, 768, DESKTOP])
@pytest.mark.parametrize("name", ["single", "several", "bare"])
def test_no_word_of_a_table_is_broken(browser: Browser, pages: dict[str, Path], name: str, width: int) -> None:
    browser.open(pages[name], width=width)
    browser.js("document.querySelectorAll('details').forEach((details) => (details.open = true))")
    assert browser.js(BROKEN_WORDS) == []
    # No part of the page scrolls sideways but what is made to.
    wide = browser.js("""const meant = '.scroll, .list, .q, pre';
        const scrolls = (e) => getComputedStyle(e).overflowX !== 'visible' && !e.matches(meant);
        const all = [...document.querySelectorAll('section *')];
        const wide = all.filter((e) => scrolls(e) && e.scrollWidth > e.clientWidth + 1);
        return wide.map((e) => e.outerHTML.slice(0, 80))""")
    assert wide == []


def test_check_of_broken_words_can_fail(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(
        "<table style='width:3em;table-layout:fixed'><td style='overflow-wrap:anywhere'>understanding</td></table>"
    )
    browser.open(tmp_path / "page.html")
    assert browser.js(BROKEN_WORDS) == ["understanding"]


@pytest.mark.parametrize("name", ["single", "several"])
def test_verdict_is_the_first_thing_under_the_title(browser: Browser, pages: dict[str, Path], name: str) -> None:
    for width in (DESKTOP, PHONE):
        browser.open(pages[name], width=width)
        lines = browser.js("return document.body.innerText").split("\n")
        said = [line for line in lines if line.strip()]
        assert said[0] == "Did the reasoning transfer?"
        assert said[1] == {"single": "Transferred.", "several": "2 of 4 transferred."}[name]


def test_what_to_do_is_on_the_page(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["single"])
    text = browser.js("return document.getElementById('use').innerText")
    for part in (
        "resa-hub pull hf:",
        "resa-hub attach tina-tiny-feature-diff-l2@0.1.0 --target resa-hub/tiny-r1",
        "PeftModel.from_pretrained(base",
        "--max-lora-rank 32",
        "Licence:",
    ):
        assert part in text, part


def shown(browser: Browser, selector: str) -> bool:
    return browser.js("return document.querySelector(arguments[0]).checkVisibility()", selector)


def test_several_evaluations_are_folded_under_a_table_of_all(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["several"])
    rows = browser.js("return [...document.querySelectorAll('.overview tbody tr')].map((row) => row.innerText)")
    assert len(rows) == 4 and rows[0].startswith("Transferred") and "+50.8" in rows[0]
    assert rows[3].startswith("Not distinguishable from controls")
    folds = browser.js("return [...document.querySelectorAll('details.evaluation > summary')].map((e) => e.innerText)")
    assert len(folds) == 4 and folds[0].startswith("Transferred. tina-tiny-feature-diff-l2@0.1.0 on tiny-r1")
    assert not any(shown(browser, f"#e{number}-arms") for number in (1, 2, 3, 4))
    browser.js("document.querySelector('.overview a[href=\"#e3\"]').click()")
    browser.wait("return document.querySelector('#e3-arms').checkVisibility()")
    assert not shown(browser, "#e2-arms")
    # A page of one evaluation has nothing to fold.
    browser.open(pages["single"])
    assert shown(browser, "#e1-arms")


def test_folds_open_without_scripts_and_on_paper(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["several"], scripts=False)
    summaries = browser.driver.find_elements("css selector", "details.evaluation > summary")
    heading = browser.driver.find_element("id", "e2-arms")
    assert not heading.is_displayed()
    summaries[1].click()
    assert heading.is_displayed()
    browser.open(pages["several"], media="print")
    assert all(shown(browser, f"#e{number}-arms") for number in (1, 2, 3, 4))
    assert all(shown(browser, f"#e{number} .settings") for number in (1, 2, 3, 4))


def test_on_paper_it_is_light_and_without_the_browser(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["single"], dark=True, media="print")
    assert browser.js("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.js("return getComputedStyle(document.getElementById('samples')).display") == "none"
    looked, poor = browser.js(CONTRAST)
    assert looked > 100 and poor == []
    assert len(browser.tell("Page.printToPDF")["data"]) > 10_000
