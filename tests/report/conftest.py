"""The committed adapter with its evaluations, in a workspace; pages of it, and a browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from resa_hub.report.page import page
from tests.helpers.commands import ROOT
from tests.helpers.reports import several, single

if TYPE_CHECKING:
    from tests.helpers.browser import Browser


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A workspace that holds a copy of the committed adapter."""
    shutil.copytree(ROOT / "adapters", tmp_path / "adapters")
    return tmp_path


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    from tests.helpers.browser import chromium

    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    made = {"single": single(), "several": several(), "bare": single(most=0)}
    paths = {name: folder / f"{name}.html" for name in made}
    for name, report in made.items():
        paths[name].write_text(page(report), encoding="utf-8")
    return paths
