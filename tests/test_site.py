"""The site of docs/, built as `make docs` builds it: every link leads somewhere, and nothing comes from elsewhere."""

import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from tests.helpers import needs
from tests.helpers.commands import ROOT

LOADED = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src"}
METADATA = {"canonical", "prev", "next", "alternate"}
"""Relations of `link` that load nothing."""
HOSTED = "404.html"
"""A host shows it at any depth, so its links begin at the host's root."""


class Page(HTMLParser):
    """Links, ids and what is loaded."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.loaded: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values.get("id", "")}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if values.get(LOADED.get(tag, "")) and values.get("rel") not in METADATA:
            self.loaded.append(values[LOADED[tag]])


def is_elsewhere(link: str) -> bool:
    return bool(urlsplit(link).netloc)


def broken(pages: dict[Path, Page]) -> list[str]:
    """Links inside the site that lead nowhere."""
    wrong = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = target.is_file() and (not parts.fragment or target not in pages)
            if not known and unquote(parts.fragment) not in (pages[target].ids if target in pages else ()):
                wrong.append(f"{path.name}: {link}")
    return wrong


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs.package("zensical", "docs")
    folder = tmp_path_factory.mktemp("site").resolve()
    shutil.copytree(ROOT / "docs", folder / "docs")
    shutil.copy(ROOT / "mkdocs.yml", folder)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text()) for path in site.rglob("*.html")}


def test_every_page_is_built(site: Path) -> None:
    sources = {path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")}
    built = {path.relative_to(site).with_suffix("") for path in site.rglob("*.html")}
    assert {path if path.name != "README" else path.with_name("index") for path in sources} <= built


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    assert [(path.name, link) for path, page in pages.items() for link in page.loaded if is_elsewhere(link)] == []
    styles = [path.read_text() for path in site.rglob("*.css")]
    assert styles and not [style for style in styles if "url(http" in style or "url(//" in style or "@import" in style]


def test_every_link_leads_somewhere(pages: dict[Path, Page]) -> None:
    assert broken({path: page for path, page in pages.items() if path.name != HOSTED}) == []


def test_a_broken_link_is_found(site: Path) -> None:
    index = site / "index.html"
    assert broken({index: Page('<a href="#no">')}) and broken({index: Page('<a href="no.html">')})
    assert not broken({index: Page('<p id="a"></p><a href="#a"></a><a href="index.html#a"></a>')})


def test_every_page_is_in_the_navigation() -> None:
    """But for the decisions, whose index is, and for this project's own log."""
    text = (ROOT / "mkdocs.yml").read_text()

    def files(node: object) -> list[str]:
        if isinstance(node, str):
            return [node]
        return [name for inner in (node.values() if isinstance(node, dict) else node) for name in files(inner)]  # pyright: ignore

    listed = files(yaml.safe_load(text)["nav"])
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert set(listed) <= there and len(listed) == len(set(listed))
    assert {name for name in there if not name.startswith("decisions/0")} == set(listed)


def test_a_search_finds_without_a_server(site: Path) -> None:
    """The index lies beside the pages as a script, and the shim that lets a folder's pages search it."""
    needs.program("chromium")
    from tests.helpers.browser import chromium

    with chromium() as browser:
        browser.open(site / "index.html")
        browser.wait("return !!document.querySelector('.md-search__button')")
        browser.js("document.querySelector('.md-search__button').click()")
        browser.wait("return !!document.activeElement.shadowRoot")
        browser.press("underpowered")
        browser.wait("return document.activeElement.shadowRoot.textContent.includes('4. The verdict')", seconds=30)
        assert browser.log() == []
