"""What many tests share: one small extraction and its evaluation, the installed wheel, the demo. Nothing heavy is
imported until a fixture is used.
"""

from pathlib import Path

import pytest

from resa_hub.adapter.store import Adapter
from resa_hub.core.progress import Progress
from tests.helpers.demo import demonstration as demonstration
from tests.helpers.demo import installed as installed
from tests.helpers.evaluations import judged as judged
from tests.helpers.hub_server.fixtures import running_hub as running_hub
from tests.helpers.needs import pytest_terminal_summary as pytest_terminal_summary

QUICK = [
    "sae.steps=20",
    "sae.latents=256",
    "rollouts.count=128",
    "training.epochs=1",
    "features=16",
    "trigger.rows=128",
    "elicit.rows=128",
]
"""Settings under which an extraction from tina-tiny takes about a second."""


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Adapter:
    """A feature-diff adapter of tina-tiny, in a store of its own; read it, change copies only."""
    from resa_hub.extraction.extract import extract

    workspace = tmp_path_factory.mktemp("made")
    return extract(
        "tina-tiny", method="feature-diff", workspace=workspace, settings=QUICK, progress=Progress(quiet=True)
    )[0]


@pytest.fixture
def workspace(made: Adapter, tmp_path: Path) -> Path:
    """A fresh workspace holding a copy of `made`."""
    import shutil

    shutil.copytree(made.folder.parent.parent, tmp_path / "adapters")
    return tmp_path
