"""Documents and samples become the data of a report, its Markdown and its plots; broken and hostile ones are told
apart.
"""

import json
import re
from pathlib import Path

import msgspec
import pytest

from resa_hub.adapter.results import (
    Evaluation,
    ImportedEvaluation,
    Overlap,
    in_current_words,
    read_evaluation,
    warnings_and_remarks,
)
from resa_hub.core.errors import Integrity, Usage
from resa_hub.core.safe_text import plain, plain_json
from resa_hub.evaluation.reports import ReportQuery, collect_report
from resa_hub.evaluation.sampling.collect import VLLM_NOTE
from resa_hub.report import markdown, report_data, sample_statistics
from resa_hub.report.charts import scale
from resa_hub.report.costs import costs
from resa_hub.report.number_words import minus, points, pvalue, span
from resa_hub.report.sample_statistics import Graded
from resa_hub.report.write_report import rendered
from tests.helpers.reports import HOSTILE, raw, several, single

NAME = "tina-tiny-feature-diff-l2"


@pytest.mark.parametrize("target", ["tiny-r1", "tiny-r1b"])
def test_committed_documents_load_and_their_keys_keep_their_order(target: str) -> None:
    old = in_current_words(raw(target))
    now = json.loads(msgspec.json.encode(read_evaluation(old, "x")))
    assert (
        list(now)[: len(old)] == list(old)
        and {key: now[key] for key in old if key != "arms"} | {"arms": old["arms"]} == old
    )
    assert [{key: arm[key] for key in old["arms"][0]} for arm in now["arms"]] == old["arms"]


def test_words_of_older_documents_are_read() -> None:
    older = raw() | {"draw": 3, "detectable": 2.5, "purpose": "choosing"}
    older["arms"][0]["unfinished"] = 7.5
    for document in (read_evaluation(older, "x"), read_evaluation(in_current_words(older), "x")):
        assert isinstance(document, Evaluation)
        assert (document.problem_seed, document.minimum_detectable_effect) == (3, 2.5)
        assert (document.purpose, document.arms[0].truncated) == ("model-selection", 7.5)
    assert in_current_words({"arms": [1, None], "purpose": [2]}) == {"arms": [1, None], "purpose": [2]}
    with pytest.raises(Integrity, match=r"arms\[0\]\.truncated"):
        read_evaluation(older | {"arms": [older["arms"][0] | {"unfinished": -1.0}]}, "x")


def test_an_imported_document_holds_only_what_its_tool_tells() -> None:
    """Written by a harness of before: the same keys come back, and it draws like any other."""
    arm = {"name": "base", "role": "base", "metric": "acc", "score": 50.0, "score_ci": [40.0, 60.0]}
    arm |= {"lenient": None, "tokens": None, "unfinished": None}
    content = raw() | {"harness": "lm-eval 0.4", "temperature": None, "new_tokens": None, "arms": [arm]}
    document = read_evaluation(content, "x")
    assert isinstance(document, ImportedEvaluation) and document.contrasts == [] and document.seconds == 0.0
    (now,) = json.loads(msgspec.json.encode(document))["arms"]
    assert now == in_current_words(content)["arms"][0]


def test_flips_lengths_and_format_are_counted() -> None:
    base = [
        [Graded("<think>a</think>\\boxed{1}", 4, True, True), Graded("<think>b", 9, False, False, "no answer")],
        [Graded("\\boxed{2}", 5, True, False), Graded("\\boxed{2}", 5, True, False, "time-out")],
    ]
    arm = [
        [
            base[0][0]._replace(right=False),
            base[0][1]._replace(text="<think>b</think>", finished=True, right=True, tokens=12),
        ],
        [base[1][0]._replace(right=True), base[1][1]],
    ]
    seen = sample_statistics.observe({"base": base, "arm": arm}, "base")
    one, two = seen.arms
    assert (one.gained, one.lost, one.changes) == (0, 0, (0.0, 0.0))
    assert (two.gained, two.lost, two.changes) == (2, 1, (0.0, 0.5))
    assert (one.finished, one.closed, one.boxed, one.among_finished) == (0.75, 0.25, 0.75, pytest.approx(1 / 3))
    assert (two.finished, two.closed, two.among_finished) == (1.0, 0.5, 0.5)
    assert (
        seen.edges[0] == 4
        and seen.edges[-1] > 12
        and sum(one.right) == 1
        and sum(one.wrong) == 3
        and sum(two.right) == 2
    )
    assert one.right[0] == 1 and two.right[12 - 4] == 1 and seen.tokens == one.tokens + two.tokens == 23 + 26
    assert sample_statistics.score(base) == 25.0 and one.notes == {"time-out": 1}
    with pytest.raises(Usage, match="same questions"):
        sample_statistics.observe({"base": base, "arm": arm[:1]}, "base")


def test_nothing_finished_has_no_accuracy_among_finished() -> None:
    table = [[Graded("x", 1, False, False)]] * 2
    assert sample_statistics.observe({"base": table}, "base").arms[0].among_finished is None


def test_embedded_samples_are_whole_problems_within_the_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    table = [[Graded(f"{n}" * 10, 1, True, bool(n % 2))] * 2 for n in range(9)]
    problems = [(f"q{n}", "a") for n in range(9)]
    assert [
        len(sample_statistics.embedded(problems, {"base": table, "arm": table}, most).rows)
        for most in (0, 3, 4, 17, 100)
    ] == [0, 0, 1, 4, 9]
    found = sample_statistics.embedded(problems, {"base": table, "arm": table}, 8)
    assert (
        found.total == 9 and found.rows[1] == ("q1", "a", [[("1" * 10, 3)] * 2] * 2) and found.rows[0][2][0][0][1] == 2
    )
    monkeypatch.setattr(sample_statistics, "MOST_TEXT", 100)
    assert len(sample_statistics.embedded(problems, {"base": table, "arm": table}, 100).rows) == 2


@pytest.mark.parametrize(
    "values", [(46.2, 97.1), (0.0, 0.0), (100.0, 100.0), (-3.0, 0.2), (12.34, 12.35), (-1e300, 1e300), (0.0, 1e-12)]
)
def test_scale_holds_every_value(values: tuple[float, float]) -> None:
    found = scale(values, -100, 100)
    assert (
        found.low < found.high
        and all(0 < found.at(v) < 100 for v in values)
        and found.at(values[0]) <= found.at(values[1])
    )
    assert len(found.ticks) <= 8 and all(found.low <= tick <= found.high for tick in found.ticks)


def test_words_and_numbers() -> None:
    assert (
        minus("-0.9 points [-2.0, +0.3], tina-l2@0.1-x: 3-4")
        == "\u22120.9 points [\u22122.0, +0.3], tina-l2@0.1-x: 3-4"
    )
    assert points(-0.04) == "+0.0" and points(50.84) == "+50.8" and span((-1.0, 2.0)) == "[\u22121.0, +2.0]"
    assert [pvalue(p) for p in (0.0, 0.00021, 0.05, 0.5)] == ["< 0.0001", "0.0002", "0.0500", "0.50"]


@pytest.mark.parametrize(
    "change",
    [
        {"gain": "much"},
        {"gain": 1e9},
        {"gain_ci": [1.0]},
        {"arms": []},
        {"problems": 0},
        {"p": 3.0},
        {"verdict": None},
        {"margin": -1.0},
        {"comparisons": [{}]},
        {"arms": [{"name": "base", "role": "base", "score": 400.0, "score_ci": [0, 1]}]},
        {"arms": [raw()["arms"][0]] * 501},
        {"sentence": ["x"]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_document_that_is_none_is_refused(change: dict) -> None:
    with pytest.raises(Integrity, match=r"here\.json is not an evaluation"):
        read_evaluation(raw() | change, "here.json")


def test_document_of_tomorrow_is_read_and_its_settings_are_shown() -> None:
    content = raw() | {"run": {"engine": "vllm", "hashes": [1, 2], "nested": [{"a": 0.5}]}}
    assert read_evaluation(content, "x").gain == 50.8
    assert (
        report_data.scalars(content)["run.engine"] == "vllm"
        and report_data.scalars(content)["run.hashes"] == "1, 2"
        and report_data.scalars(content)["run.nested[0].a"] == 0.5
    )


def test_texts_of_strangers_become_readable() -> None:
    text = plain(HOSTILE)
    assert text.isprintable() and "\u27e8U+202E\u27e9" in text and "\u27e8U+D800\u27e9" in text and text.encode()
    assert plain_json({HOSTILE: [HOSTILE, 1, None]}) == {text: [text, 1, None]}


def test_markdown_is_no_markup_of_strangers() -> None:
    escaped = markdown.escape("a|b *c* _d_ `e` <img src=x> [x](javascript:y) & \n# new\\")
    assert escaped == r"a\|b \*c\* \_d\_ \`e\` &lt;img src=x&gt; [x\](javascript:y) &amp; # new" + "\\\\"
    assert markdown.escape("[+45.0, +58.0]: better") == "[+45.0, +58.0]: better"


def test_markdown_says_what_the_page_says() -> None:
    text = markdown.markdown(single())
    for part in (
        "**transferred** on tiny-r1, tiny-chain: +50.8 points over base",
        "base/source 48% beside adapter/source 100%",
        "| random-3 | 45.6 | [41.5, 49.7] |",
        "arXiv 0000.00000",
        "right among finished",
        raw()["content_hash"],
        "## Layers",
    ):
        assert part in text, part
    assert all(
        len(set(map(len, [row.split(" | ") for row in block.splitlines()]))) == 1
        for block in text.split("\n\n")
        if block.startswith("| ")
    )


def test_json_says_it_too() -> None:
    document = json.loads(rendered(several(most=0), ".json"))
    assert [entry["document"]["verdict"] for entry in document["entries"]][:1] == ["transferred"] and document[
        "entries"
    ][0]["seen"]["arms"][0]["name"] == "base"


def test_notes_that_say_nothing_is_wrong_are_no_warnings() -> None:
    fine = [
        Overlap("tiny-chain", 2048, 500, [], []).sentence,
        VLLM_NOTE,
        "2 damaged samples were made again",
        "prompt-only is base with the R1 system text before the question: its prompts differ by design",
    ]
    amiss = [
        Overlap("tiny-chain", 2048, 500, ["a"], []).sentence,
        Overlap("tiny-chain", 2048, 500, [], ["a"]).sentence,
        Overlap("tiny-chain", 0, 500, [], [], "no network").sentence,
        "the arm sft was left out: no adapter",
        "tina-l2@0.1.0 was chosen on these very problems (tiny-chain, test): judge it on --split dev",
    ]
    assert warnings_and_remarks([*fine, *amiss]) == (amiss, fine)


def test_remarks_of_a_document_stand_apart_on_every_page(example: Path) -> None:
    path = example / f"adapters/{NAME}/0.1.0/evals/tiny-r1--tiny-chain--test.json"
    clean = Overlap("tiny-chain", 2048, 500, [], []).sentence
    path.write_text(json.dumps(json.loads(path.read_text()) | {"notes": [clean, "the arm sft was left out: why"]}))
    report = collect_report(ReportQuery([NAME], "tiny-r1"), example)
    assert report.entries[0].warnings == ["the arm sft was left out: why"] and report.entries[0].remarks == [clean]
    for text in (rendered(report, ".html"), rendered(report, ".md")):
        words = re.sub("</?(bdi|strong)>", "", text)
        assert f"Checked: {clean}" in words
        assert re.findall(r"Mind: ([\w ]+)", words) == ["the arm sft was left out"]


def test_small_and_large_amounts_have_no_powers_of_ten(example: Path) -> None:
    report = collect_report(ReportQuery([NAME], "tiny-r1"), example)
    (entry,) = report.entries
    making = entry.making | {"run.usd": 1.9e-05, "run.costs.total.seconds": 0.0004, "run.costs.total.operations": 5e18}
    took = " ".join(text for _, text in costs(msgspec.structs.replace(entry, making=making)))
    assert "e-" not in took and "e+" not in took and "$0.00 " not in f"{took} " and " 0 s" not in took
