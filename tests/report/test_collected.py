"""What a report holds: evaluations of the store, of files and of the command line, with what lies beside them."""

import json
from pathlib import Path

import msgspec
import pytest

from resa_hub.adapter.store import Adapter
from resa_hub.adapter.workspace import Workspace
from resa_hub.cli.main import run
from resa_hub.core.errors import HubError, Integrity, NotFound, Usage
from resa_hub.evaluation.reports import ReportQuery, collect_report
from resa_hub.report.write_report import rendered
from tests.helpers.reports import EVALS, curve, raw

NAME = "tina-tiny-feature-diff-l2"


def test_a_report_of_documents_alone_says_what_it_cannot_show(example: Path) -> None:
    report = collect_report(ReportQuery([NAME], "tiny-r1"), example)
    (entry,) = report.entries
    assert (
        entry.seen is None
        and "not in this workspace" in entry.unseen.replace("missing from", "not in")
        and entry.method == "feature-diff"
        and entry.source == "tina-tiny"
    )
    assert entry.making["recipe.lora.rank"] == 32 and "base.sketch.values" not in entry.making
    assert entry.unseen in rendered(report, ".html") and "transferred" in rendered(report, ".md")
    assert [e.document.target for e in collect_report(ReportQuery(), example).entries] == ["tiny-r1", "tiny-r1b"]


def test_files_are_read_and_a_stranger_adapter_needs_no_store(tmp_path: Path) -> None:
    both, sweep = tmp_path / "both.json", tmp_path / "sweep.json"
    both.write_text(json.dumps({"evaluations": [raw(), raw("tiny-r1b")]}))
    sweep.write_bytes(msgspec.json.encode(curve()))
    report = collect_report(
        ReportQuery([str(both), str(sweep), str(EVALS / "tiny-r1--tiny-chain--test.json")]), tmp_path
    )
    assert (
        len(report.entries) == 3
        and len(report.curves) == 1
        and "not in this workspace" in report.entries[0].unseen
        and report.entries[0].making == {}
    )


def test_curves_of_the_workspace_are_found(example: Path) -> None:
    folder = Workspace(example).cache / "sweeps"
    folder.mkdir(parents=True)
    content = msgspec.to_builtins(curve())
    content["places"][0]["adapter"] = f"{NAME}@0.1.0"
    (folder / "mine.json").write_text(json.dumps(content))
    (folder / "other.json").write_bytes(msgspec.json.encode(curve()))
    (folder / "broken.json").write_text("{")
    assert [c.places[0].adapter for c in collect_report(ReportQuery([NAME]), example).curves] == [f"{NAME}@0.1.0"]


def test_published_scores_stand_beside_with_their_uncertainty(example: Path) -> None:
    (example / "registry.yaml").write_text(
        f"published:\n  {NAME}: {{source: a paper, scores: {{tiny-chain: 90.0}}}}\n"
        "  tina-tiny: {source: another, samples: 10, scores: {tiny-chain: 97.0}}\n  elsewhere: {source: x, "
        "scores: {aime24: 10.0}}\n"
    )
    mine, source = collect_report(ReportQuery([NAME], "tiny-r1", published=["elsewhere"]), example).entries[0].published
    assert (mine.label, mine.role, mine.score, source.label, source.score_ci) == (
        NAME,
        "adapter",
        90.0,
        "tina-tiny",
        None,
    )
    assert mine.score_ci == pytest.approx((87.06, 92.34), abs=0.02)  # Wilson, 450 of 500
    with pytest.raises(NotFound, match="nobody"):
        collect_report(ReportQuery([NAME], published=["nobody"]), example)


def test_unreadable_evaluations_are_named(example: Path) -> None:
    folder = example / "adapters" / NAME / "0.1.0/evals"
    (folder / "half.json").write_text(json.dumps({"verdict": "transferred"}))
    report = collect_report(ReportQuery(), example)
    assert (
        len(report.entries) == 2
        and "half.json" in report.left_out[0]
        and "half.json" in rendered(report, ".html")
        and "half.json" in rendered(report, ".md")
    )
    with pytest.raises(Integrity, match=r"half\.json"):
        collect_report(ReportQuery([str(folder / "half.json")]), example)


@pytest.mark.parametrize(
    ("wish", "kind"),
    [
        (ReportQuery(["nobody"]), NotFound),
        (ReportQuery([NAME], "tiny-base"), NotFound),
        (ReportQuery([NAME], benchmark="aime24"), NotFound),
        (ReportQuery(["missing.json"]), NotFound),
        (ReportQuery([NAME], samples=-1), Usage),
        (ReportQuery(["list.json"]), Usage),
        (ReportQuery(["sweep.json"]), Usage),
    ],
    ids=str,
)
def test_mistakes_are_told(
    example: Path, monkeypatch: pytest.MonkeyPatch, wish: ReportQuery, kind: type[HubError]
) -> None:
    monkeypatch.chdir(example)
    (example / "list.json").write_text("[1, 2]")
    (example / "sweep.json").write_bytes(msgspec.json.encode(curve()))
    with pytest.raises(kind) as caught:
        collect_report(wish, example)
    assert caught.value.hint


@pytest.mark.slow
def test_command_writes_pages_and_prints(
    example: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(example)
    assert run(["report", NAME]) == 0
    assert "report-tina-tiny-feature-diff-l2.html" in capsys.readouterr().out
    assert "Did the reasoning transfer?" in (example / f"report-{NAME}.html").read_text()
    assert (
        run(["report", NAME, "--out", "a.md", "-q"]) == 0
        and capsys.readouterr().out == "a.md\n"
        and (example / "a.md").read_text().startswith("# Did")
    )
    assert run(["report", NAME, "--out", "-"]) == 0 and "**transferred**" in capsys.readouterr().out
    assert run(["report", NAME, "--json"]) == 0 and len(json.loads(capsys.readouterr().out)["entries"]) == 2
    for arguments, code in ((["--out", "a.pdf"], 2), (["--out", "no/a.html"], 3), (["--samples", "few"], 2)):
        assert run(["report", NAME, *arguments]) == code
    assert not (example / "a.pdf").exists()


@pytest.mark.slow
def test_samples_of_the_workspace_reach_the_page(
    made: Adapter, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the real commands: what eval kept, the report shows; what does not agree with the document is not
    shown.
    """
    monkeypatch.chdir(workspace)
    name, where = made.manifest.name, ["--workspace", str(workspace)]
    assert (
        run(
            [
                "eval",
                name,
                "--target",
                "tiny-r1",
                "--problems",
                "20",
                "--samples",
                "2",
                "--controls",
                "1",
                "--no-greedy",
                "--page",
                "a.html",
                "-q",
                *where,
            ]
        )
        == 0
    )
    assert "What flipped" in (workspace / "a.html").read_text() and 'id="payload"' in (workspace / "a.html").read_text()
    (entry,) = collect_report(ReportQuery([name]), workspace).entries
    assert entry.seen and entry.browser and entry.unseen == ""
    scores = {arm.name: arm.score for arm in entry.document.arms}
    for arm in entry.seen.arms:
        assert arm.completions == 40 and 100 * (sum(arm.right) / 40) == pytest.approx(scores[arm.name])
        assert (arm.gained - arm.lost) / 40 * 100 == pytest.approx(scores[arm.name] - scores["base"])
    assert [text for text, flags in entry.browser.rows[0][2][0] if flags & 1] == [
        text for text, _ in entry.browser.rows[0][2][0] if text.endswith(f"<answer>{entry.browser.rows[0][1]}</answer>")
    ]
    path = next((workspace / "adapters" / name / "0.1.0/evals").glob("*.json"))
    content = json.loads(path.read_text())
    content["arms"][0]["score"] += 5
    path.write_text(json.dumps(content))
    (entry,) = collect_report(ReportQuery([name]), workspace).entries
    assert entry.seen is None and "other scores than the document for base" in entry.unseen
    for change in ({"benchmark": str(path)}, {"arms": [content["arms"][0] | {"samples": "../x"}]}):
        path.write_text(json.dumps(content | change))
        assert collect_report(ReportQuery([name]), workspace).entries[0].unseen
    path.write_text(json.dumps(content | {"content_hash": "sha256:" + "0" * 64}))
    assert collect_report(ReportQuery([name]), workspace).entries[0].making == {}  # another adapter of that name
    assert run(["eval", name, "--target", "tiny-r1", "--page", "a.docx", *where]) == 2
