"""One rule over the embedded family, from `extract` to the page: what transfers, what harms, what does nothing, and
what cannot be told.
"""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from resa_hub.adapter.layout import MANIFEST, WEIGHTS, content_hash, identity_of, scan
from resa_hub.cli.main import run
from resa_hub.evaluation.reports import ReportQuery, collect_report
from resa_hub.report.write_report import rendered
from tests.helpers.commands import ROOT

pytestmark = pytest.mark.slow
COMMITTED = "tina-tiny-feature-diff-l2"
SMALL = (
    "sae.steps=50",
    "sae.latents=256",
    "trigger.rows=512",
    "elicit.rows=512",
    "training.epochs=1",
    "training.learning_rate=1e-6",
)
"""SAE-Tuning at the paper's learning rate, on less data."""


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed adapter, SFT on bare answers and SAE-Tuning, judged by one evaluation; a zero adapter by
    another.
    """
    workspace = tmp_path_factory.mktemp("family")
    shutil.copytree(ROOT / "adapters" / COMMITTED, workspace / "adapters" / COMMITTED)
    where = ["--workspace", str(workspace), "-q"]
    extract = ["extract", "--source", "tina-tiny", *where]
    small = [part for setting in SMALL for part in ("--set", setting)]
    assert run([*extract, "--method", "sft", "--name", "sft"]) == 0
    assert run([*extract, "--method", "sae-tuning", "--name", "sae-tuning", *small]) == 0
    vanish(workspace / "adapters/sae-tuning", workspace / "adapters/zero")
    common = ["--target", "tiny-r1", "--problems", "200", "--samples", "2", "--no-greedy", *where]
    assert run(["eval", COMMITTED, "sft", "sae-tuning", "--controls", "2", "--arms", "source,random", *common]) == 0
    assert run(["eval", "zero", "--controls", "0", "--arms", "source", *common]) == 0
    return workspace


def vanish(origin: Path, target: Path) -> None:
    """A copy of the adapter with matrices so small that no logit changes, in order down to its manifest."""
    shutil.copytree(origin, target)
    folder = target / "0.1.0"
    weights = {name: 1e-25 * tensor for name, tensor in load_file(folder / WEIGHTS).items()}
    (folder / WEIGHTS).unlink()  # the store may hold it under two names
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    files = identity_of(scan(folder))
    content = json.loads((folder / MANIFEST).read_text())
    content |= {
        "name": "zero",
        "content_hash": content_hash(files),
        "files": [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in files],
    }
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).write_text(json.dumps(content))


def test_the_rule_tells_them_apart(judged: Path) -> None:
    report = collect_report(ReportQuery(target="tiny-r1"), judged)
    documents = {entry.document.adapter.partition("@")[0]: entry.document for entry in report.entries}
    paper = documents.pop("sae-tuning")
    assert {name: document.verdict for name, document in documents.items()} == {
        COMMITTED: "transferred",
        "sft": "harmful",
        "zero": "identical to base",
    }
    best, sft = documents[COMMITTED], documents["sft"]
    assert best.gain > 30 and best.gain_ci[0] > best.margin and best.retained is not None and best.retained > 0.7
    assert documents["zero"].gain == 0 and sft.gain_ci[1] < -sft.margin
    assert paper.verdict != "transferred" and abs(paper.gain) < 5
    assert all(entry.seen is not None for entry in report.entries)
    text = rendered(report, ".html")
    for word in ("Transferred.", "Harmful.", "Identical to base."):
        assert f'<p class="word">{word}</p>' in text
    assert len(text.encode()) < 600_000 and "What flipped" in text
