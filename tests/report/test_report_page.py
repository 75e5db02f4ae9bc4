"""The page in a real browser: what stands on it, keys, dark mode, and texts of people who mean harm."""

import re
from pathlib import Path

import pytest

from resa_hub.core.safe_text import plain
from resa_hub.report import report_data
from resa_hub.report.page import page
from tests.helpers.browser import CONTRAST, DESKTOP, PHONE, Browser
from tests.helpers.reports import HOSTILE, curve, entry, raw, several, single

pytestmark = pytest.mark.slow
TAB, DOWN, UP, END, ENTER = "\ue004", "\ue015", "\ue013", "\ue010", "\ue007"


@pytest.mark.parametrize("name", ["single", "several", "bare"])
def test_page_is_whole_silent_and_loads_nothing(browser: Browser, pages: dict[str, Path], name: str) -> None:
    browser.open(pages[name])
    assert browser.log() == []
    assert (
        browser.js(
            "return performance.getEntriesByType('resource').map((entry) => entry.name).filter((name) => "
            "!name.startsWith('data:'))"
        )
        == []
    )
    assert browser.js("return document.documentElement.scrollWidth") <= DESKTOP
    # Ids are unique, links within the page lead somewhere, pictures are told, fields have labels.
    assert browser.js(
        "const ids = [...document.querySelectorAll('[id]')].map((e) => e.id); return ids.length === new Set(ids).size"
    )
    assert (
        browser.js(
            "return [...document.querySelectorAll('a')].filter((a) => "
            "!document.querySelector(a.getAttribute('href'))).length"
        )
        == 0
    )
    assert (
        browser.js(
            "return [...document.querySelectorAll('svg')].filter((e) => !e.getAttribute('aria-label') && "
            "!e.getAttribute('aria-hidden')).length"
        )
        == 0
    )
    assert (
        browser.js("return [...document.querySelectorAll('select, input')].filter((e) => !e.labels.length).length") == 0
    )


def test_words_come_first_and_every_part_is_there(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["single"])
    browser.js("document.querySelector('nav').remove()")
    text = browser.js("return document.body.innerText")
    order = [
        "Did the reasoning transfer?",
        "Transferred.",
        "+50.8 points over base",
        "score ratios",
        "Use it",
        "Layers",
        "All arms",
        "Adapter minus every other arm",
        "What flipped",
        "Lengths and format",
        "Cost and settings",
        "Samples",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    verdict = browser.js("return document.querySelector('.verdict').innerText")
    for number in ("+50.8", "[+46.6, +55.0]", "[+49.2, +52.4]", "100%", "[96%, 104%]", "48%", "< 0.0001", "5.1"):
        assert number in verdict, number
    arms = browser.js("return [...document.querySelectorAll('#e1 table.charted')][0].innerText")
    assert all(
        part in arms
        for part in (
            "base: tiny-r1",
            "46.2 [42.1, 50.3]",
            "source",
            "97.1",
            "random-3",
            "resa-tiny",
            "80.0 [60.0, 92.0]",
        )
    )
    assert "two one-sided t tests" in browser.js("return document.querySelector('#verdict details').textContent")
    settings = browser.js("return document.querySelector('#e1 .settings').textContent")
    assert raw()["content_hash"] in settings and raw()["target_revision"] in settings


def test_marks_stand_where_the_numbers_say(browser: Browser, pages: dict[str, Path]) -> None:
    """The dots of all arms lie on one line over the axis: position is linear in the score."""
    browser.open(pages["single"])
    dots = browser.js("return [...document.querySelectorAll('#e1 table.charted')][0].querySelectorAll('circle').length")
    assert dots == len(raw()["arms"]) + 2
    ticks = browser.js("""const axis = document.querySelector('#e1 .axis svg');
        const middle = (t) => t.getBoundingClientRect().x + t.getBoundingClientRect().width / 2;
        return [...axis.querySelectorAll('text')].map((t) => [parseFloat(t.textContent), middle(t)])""")
    (low, left), *_, (high, right) = ticks
    centres = browser.js("""const chart = [...document.querySelectorAll('#e1 table.charted')][0];
        return [...chart.querySelectorAll('circle')]
        .map((c) => c.getBoundingClientRect().x + c.getBoundingClientRect().width / 2)""")
    for arm, x in zip(raw()["arms"], centres, strict=False):
        assert left + (arm["score"] - low) / (high - low) * (right - left) == pytest.approx(x, abs=1.5)


def test_heat_map_is_grey_where_nothing_is_shown(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["several"])
    cells = browser.js(
        "return [...document.querySelectorAll('.heat td')].map((td) => [td.className, "
        "td.querySelector('b').textContent, td.innerText])"
    )
    assert [kind for kind, *_ in cells] == ["flat", "flat", "up4", "up4"]
    assert [gain for _, gain, _ in cells] == ["\u22120.4", "\u22120.4", "+50.8", "+48.0"]
    assert all("not distinguishable" in text for *_, text in cells[:2]) and all(
        "transferred" in text for *_, text in cells[2:]
    )
    grounds = browser.js(
        "return [...document.querySelectorAll('.heat td')].map((td) => getComputedStyle(td).backgroundColor)"
    )
    assert grounds[0] == grounds[1] != grounds[2]


def test_samples_are_filtered_searched_and_compared(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["single"])
    count = "return parseInt(document.getElementById('count').textContent.replaceAll(',', ''))"
    choose = (
        "const e = document.getElementById(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new "
        "Event(arguments[2]))"
    )
    everything = browser.js(count)
    assert everything == 66  # 33 problems x 2 samples: 6 arms give 396 of at most 400 completions
    found = {}
    for kind in ("right", "wrong", "won", "lost", "flipped", "cut"):
        browser.js(choose, "show", kind, "change")
        found[kind] = browser.js(count)
        marks = browser.js(
            "return [...document.querySelectorAll('#list button[data-index]')].map((b) => b.textContent.slice(0, 2))"
        )
        wanted = {
            "right": {"✓✓", "✓✗"},
            "wrong": {"✗✓", "✗✗"},
            "won": {"✗✓"},
            "lost": {"✓✗"},
            "flipped": {"✗✓", "✓✗"},
        }.get(kind)
        assert len(marks) == found[kind] and (wanted is None or set(marks) <= wanted)
    assert (
        found["right"] + found["wrong"] == everything
        and found["won"] + found["lost"] == found["flipped"]
        and found["won"] > 10
    )
    browser.js(choose, "show", "won", "change")
    one, two = browser.js(
        "return [document.getElementById('text-one').textContent, document.getElementById('text-two').textContent]"
    )
    assert "<answer>6</answer>" in two and "<answer>6</answer>" not in one
    # What is not marked is the same on both sides: the difference is one.
    kept = browser.js("""const nodes = (id) => [...document.getElementById(id).childNodes];
        const plain = (id) => nodes(id).filter((node) => node.nodeType === 3);
        return ['text-one', 'text-two'].map((id) => plain(id).map((node) => node.textContent).join(''))""")
    assert kept[0] == kept[1] != "" and browser.js("return document.querySelectorAll('pre mark').length") > 0
    browser.js("document.getElementById('diff').click()")
    assert browser.js("return document.querySelectorAll('pre mark').length") == 0
    browser.js(choose, "show", "all", "change")
    browser.js(choose, "search", "12+6=", "input")
    assert browser.js(count) >= 2 and "12+6=" in browser.js("return document.getElementById('question').textContent")
    browser.js(choose, "search", "no such text anywhere", "input")
    assert browser.js(count) == 0 and "No sample" in browser.js(
        "return document.getElementById('question').textContent"
    )
    assert "33 of 500 problems" in browser.js("return document.getElementById('samples').innerText")
    assert browser.log() == []


def test_everything_is_reached_by_keys(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["single"])
    browser.press(TAB)
    assert browser.focused() == "How the word is chosen"
    reached = set()
    for _ in range(60):
        browser.press(TAB)
        reached.add(browser.focused())
        outline = browser.js(
            "const s = getComputedStyle(document.activeElement); return [s.outlineStyle, parseFloat(s.outlineWidth)]"
        )
        assert (outline[0] != "none" and outline[1] >= 2) or browser.js(
            "return document.activeElement === document.body"
        ), browser.focused()
    assert {"one", "two", "show", "search", "back", "next", "diff", "text-one", "text-two"} <= reached
    browser.js("document.querySelector('#list button').focus()")
    first = browser.js("return document.getElementById('question').textContent")
    browser.press(DOWN)
    browser.press(DOWN)
    assert browser.js("return document.getElementById('question').textContent") != first
    assert browser.js("return document.activeElement === document.querySelector('#list [aria-current]')")
    browser.press(UP)
    browser.press(UP)
    assert browser.js("return document.getElementById('question').textContent") == first
    browser.press("/")
    assert browser.focused() == "search"
    browser.press("12+6=")
    assert "12+6=" in browser.js("return document.getElementById('question').textContent")
    assert browser.log() == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [DESKTOP, PHONE])
@pytest.mark.parametrize("name", ["single", "several"])
def test_every_text_can_be_read(browser: Browser, pages: dict[str, Path], name: str, width: int, dark: bool) -> None:
    browser.open(pages[name], width=width, dark=dark)
    looked, poor = browser.js(CONTRAST)
    assert looked > 200 and poor == []
    r, g, b = map(int, re.findall(r"\d+", browser.js("return getComputedStyle(document.body).backgroundColor"))[:3])
    assert (max(r, g, b) < 60) if dark else (min(r, g, b) > 200)


def test_contrast_check_can_fail(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(
        "<body style='background:#fff'><p style='color:#999'>pale</p><p style='color:#000'>ink</p>"
    )
    browser.open(tmp_path / "page.html")
    assert browser.js(CONTRAST) == [2, [["pale", "2.85"]]]


def test_without_scripts_all_but_the_samples_is_there(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["single"], scripts=False)
    text = browser.driver.find_element("tag name", "body").text
    assert "Transferred." in text and "needs JavaScript" in text and "Lengths and format" in text


def hostile_page(folder: Path) -> Path:
    content = raw()
    content |= {
        "target": HOSTILE,
        "benchmark": HOSTILE,
        "sentence": HOSTILE,
        "verdict": HOSTILE,
        "split": HOSTILE,
        HOSTILE: HOSTILE,
        "fit": HOSTILE,
    }
    for arm in content["arms"][1:]:
        arm["role"] = f"{HOSTILE} {arm['role']}"
    content["arms"][3]["name"] = f"{content['adapter']} {HOSTILE}"
    content["comparisons"][1]["against"] = HOSTILE
    made = entry(content, text=HOSTILE, making=report_data.flat({HOSTILE: HOSTILE}), warnings=[plain(HOSTILE)])
    report = several()
    wicked = type(report)([made, *report.entries], [curve()], plain(HOSTILE), "0.1.0")
    (folder / "hostile.html").write_text(page(wicked), encoding="utf-8")
    return folder / "hostile.html"


def test_texts_of_strangers_stay_texts(browser: Browser, tmp_path: Path) -> None:
    path = hostile_page(tmp_path)
    browser.open(path)
    assert browser.log() == []
    assert browser.driver.title != "owned" and browser.js("return document.querySelectorAll('img').length") == 0
    assert browser.js("return document.querySelectorAll('script').length") == 2
    shown = browser.js(
        "return [document.body.innerText, document.getElementById('text-one').textContent, "
        "document.getElementById('question').textContent]"
    )
    for text in shown:
        assert "</script><script>document.title='owned'</script>" in text and "<img src=x" in text
        assert "\u202e" not in text and "\u27e8U+202E\u27e9" in text
    assert "\u202e" not in path.read_text(encoding="utf-8")
    browser.open(path, width=PHONE)
    assert browser.js("return document.documentElement.scrollWidth") == PHONE


def test_even_a_script_that_got_in_would_not_run(browser: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    """The policy holds by itself: injected scripts, handlers and styles are refused by the browser."""
    text = pages["single"].read_text(encoding="utf-8")
    injected = (
        "<script>document.title='owned'</script><img src='data:,' onerror=\"document.title='owned'\"><p "
        "style='color:red'>x</p></body>"
    )
    (tmp_path / "injected.html").write_text(text.replace("</body>", injected), encoding="utf-8")
    browser.open(tmp_path / "injected.html")
    assert browser.driver.title.startswith("transferred")
    assert sum("Content Security Policy" in message for message in browser.log()) >= 3


def test_page_stays_small() -> None:
    assert len(page(single(most=0)).encode()) < 150_000
    assert len(page(several(12, most=0)).encode()) < 600_000
